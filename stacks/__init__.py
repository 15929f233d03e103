"""The CDK app: settings in, CloudFormation stacks out. Never imported by the chatbot or its handler."""
