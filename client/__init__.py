"""The `ock` command: a client of the chatbot on this machine or on SageMaker, over boto3.

It knows the wire by its JSON alone and imports neither the chatbot nor the local host.
"""
