"""OpenChatKit: a moderated, retrieval-fed chatbot that runs on SageMaker and on one laptop alike.

The package is copied to the endpoint as it is. It reads nothing at import time and imports no
heavy library before `build.py` composes a service from settings.
"""
