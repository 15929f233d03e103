"""Code of the app's Lambda functions: the standard library and boto3, nothing else of the house."""
