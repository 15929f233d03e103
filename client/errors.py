"""What can go wrong between the command and the chatbot, one line each for the user.

ClientError
├── Refused          the chatbot answered with an error of the wire: a code and a message
├── NothingListens   no host at the local address
└── CallFailed       the call did not get through: credentials, endpoint, network, a broken stream
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of all; its text is what the user reads."""


class Refused(ClientError):
    """The chatbot refused the request, or failed at it."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.status = status


class NothingListens(ClientError):
    """There is no local host."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"nothing listens at {url}; start the chatbot with `make run` (or `ock serve`), "
            "or name an endpoint on SageMaker with --endpoint"
        )


class CallFailed(ClientError):
    """The call did not reach the chatbot, or its answer did not come back whole."""
