"""The endpoint on one machine: SageMaker's runtime API over HTTP on 127.0.0.1, and the chat page."""

DEFAULT_PORT = 8080
"""SageMaker's own; the `ock` command looks there first."""
