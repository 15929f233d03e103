"""Sessions to AWS for the operating commands, and what a failed call is called.

Every client made from such a session has time limits and gives up after a few attempts, so no
command hangs. A failure becomes one line that says what to do; it carries AWS's own words only
after its code, on one line, without control characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from botocore.exceptions import ClientError as AwsError
from botocore.parsers import ResponseParserError

from client.errors import CallFailed
from client.terminal import one_line

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 20
ATTEMPTS = 3
"""Of a call, the first one included; throttling and broken connections are tried again."""
MAX_REASON = 300
"""Characters of an error that are shown."""

AWS_ERRORS = (BotoCoreError, AwsError, ResponseParserError)
"""Whatever a call of boto3 raises."""

_SIGN_IN = "sign in (`aws configure`, `aws sso login`) or set AWS_PROFILE"
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
_SIGNED_OUT = (SSOTokenLoadError, TokenRetrievalError, UnauthorizedSSOTokenError)
_UNREACHABLE = (EndpointConnectionError, ConnectTimeoutError, ReadTimeoutError)
_BAD_CREDENTIALS = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"}
    | {"SignatureDoesNotMatch", "AuthFailure", "InvalidAccessKeyId", "RequestExpired"}
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"})
_THROTTLED = frozenset(
    {"Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded", "SlowDown"}
    | {"TooManyRequestsException", "RequestThrottled", "RequestThrottledException"}
)


def open_session(*, region: str | None = None, profile: str | None = None) -> boto3.Session:
    """Return a session with the credentials that boto3 finds; its clients have the limits above.

    Raises:
        CallFailed: there is no such profile, or AWS's configuration files cannot be read.
    """
    core = botocore.session.Session()
    core.set_default_client_config(
        Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        )
    )
    with failures():
        return boto3.Session(botocore_session=core, region_name=region, profile_name=profile)


def code_of(error: AwsError) -> str:
    """Return AWS's code of an error, such as `AccessDenied`; S3 gives `404` where a body is missing."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def reason_of(error: BotoCoreError | AwsError | ResponseParserError) -> str:
    """Return one line: what went wrong and, where the user can mend it, how."""
    match error:
        case AwsError():
            return _refusal(error)
        case ResponseParserError():
            return "what answered is not AWS, or AWS is out of order"
        case NoRegionError():
            return "no AWS region is set: use --region, or set AWS_REGION"
        case ProfileNotFound():
            return f"{_short(error)}; `aws configure list-profiles` lists them"
    if isinstance(error, _NO_CREDENTIALS):
        return f"no AWS credentials: {_SIGN_IN}"
    if isinstance(error, _SIGNED_OUT):
        return f"the AWS sign-in is over: {_SIGN_IN}"
    if isinstance(error, _UNREACHABLE):
        address = getattr(error, "kwargs", {}).get("endpoint_url", "AWS")
        return f"{address} cannot be reached: is there a network, does the region exist?"
    return _short(error)


@contextmanager
def failures(doing: str = "") -> Iterator[None]:
    """Turn what boto3 raises in the block into `CallFailed`; `doing` says what was tried."""
    try:
        yield
    except AWS_ERRORS as error:
        reason = reason_of(error)
        raise CallFailed(f"{doing}: {reason}" if doing else reason) from error


def _refusal(error: AwsError) -> str:
    code, details = code_of(error), error.response.get("Error", {})
    message = one_line(details.get("Message") or "", MAX_REASON)
    operation = error.operation_name
    if code in _BAD_CREDENTIALS:
        return f"AWS does not accept the credentials ({code}): {_SIGN_IN}"
    if code in _DENIED:
        return f"not allowed to call {operation}: {message or code}"
    if code in _THROTTLED:
        return f"AWS throttles {operation} ({code}): try again in a minute"
    return f"{operation} failed, {code}: {message}" if message else f"{operation} failed, {code}"


def _short(error: object) -> str:
    return one_line(str(error), MAX_REASON)
