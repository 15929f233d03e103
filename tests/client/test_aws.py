"""Failed calls: each becomes one line that says what to do, soon."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import boto3
import pytest
from botocore.exceptions import ClientError as AwsError
from botocore.exceptions import (
    ConnectTimeoutError,
    PartialCredentialsError,
    ReadTimeoutError,
    UnauthorizedSSOTokenError,
)

from client import aws as client_aws
from client.aws import MAX_REASON, failures, open_session, reason_of
from client.errors import CallFailed
from tests.support.local_aws import LocalAws
from tests.support.refusing_aws import serve_refusals


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LocalAws(0).environment.items():
        monkeypatch.setenv(name, value)
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    ):
        monkeypatch.delenv(name, raising=False)


def call(session: boto3.Session) -> None:
    with failures("who am I"):
        session.client("sts").get_caller_identity()


@pytest.mark.usefixtures("nothing_set")
def test_no_region() -> None:
    with pytest.raises(CallFailed, match=r"^who am I: no AWS region is set: use --region"):
        call(open_session())


@pytest.mark.usefixtures("nothing_set")
def test_no_credentials() -> None:
    with pytest.raises(CallFailed, match=r"^who am I: no AWS credentials: sign in \(`aws configure`"):
        call(open_session(region="us-east-1"))


@pytest.mark.usefixtures("nothing_set")
def test_no_such_profile() -> None:
    with pytest.raises(CallFailed, match=r"none-such.*; `aws configure list-profiles` lists them$"):
        open_session(profile="none-such")


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens at, held so that nobody else can."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_an_address_where_nothing_listens(
    aws: LocalAws, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}")
    with pytest.raises(CallFailed, match=rf"http://127\.0\.0\.1:{closed_port}/? cannot be reached"):
        call(open_session())


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_aws, "READ_TIMEOUT_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        for name, value in LocalAws(0).environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(CallFailed, match="cannot be reached"):
            call(open_session())
    assert time.monotonic() - started < 60


def error_xml(code: str, message: str) -> bytes:
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return f"<ErrorResponse>{error}</ErrorResponse>".encode()


@pytest.mark.parametrize(
    ("code", "message", "shown"),
    [
        ("ExpiredToken", "m", r"^who am I: AWS does not accept the credentials \(ExpiredToken\): sign in"),
        ("AccessDenied", "no\n\u202eway", r"^who am I: not allowed to call GetCallerIdentity: no .*way$"),
        (
            "Throttling",
            "Rate exceeded",
            r"^who am I: AWS throttles GetCallerIdentity \(Throttling\): try again",
        ),
        ("Odd", "the words", r"^who am I: GetCallerIdentity failed, Odd: the words$"),
        ("Odd", "", r"^who am I: GetCallerIdentity failed, Odd$"),
        ("Odd", "w " * 1000, r"…$"),
    ],
)
def test_a_refusal_is_one_line(code: str, message: str, shown: str) -> None:
    with (
        serve_refusals(lambda _: (400, error_xml(code, message))),
        pytest.raises(CallFailed, match=shown) as raised,
    ):
        call(open_session())
    assert "\n" not in str(raised.value)
    assert "\u202e" not in str(raised.value)
    assert len(str(raised.value)) < MAX_REASON + 100


def test_throttling_is_tried_again_and_given_up() -> None:
    with (
        serve_refusals(lambda _: (400, error_xml("Throttling", "Rate exceeded"))) as server,
        pytest.raises(CallFailed),
    ):
        call(open_session())
    assert len(server.seen) == client_aws.ATTEMPTS


def test_throttling_that_ends_is_not_noticed() -> None:
    answers = [(400, error_xml("Throttling", "Rate exceeded"))]
    result = b"<GetCallerIdentityResult><Account>1</Account></GetCallerIdentityResult>"
    result = b"<GetCallerIdentityResponse>%s</GetCallerIdentityResponse>" % result
    with serve_refusals(lambda _: answers.pop() if answers else (200, result)):
        call(open_session())
    assert not answers


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (PartialCredentialsError(provider="env", cred_var="x"), "no AWS credentials"),
        (UnauthorizedSSOTokenError(), "the AWS sign-in is over"),
        (ConnectTimeoutError(endpoint_url="https://sts.x"), "https://sts.x cannot be reached"),
        (ReadTimeoutError(endpoint_url="https://sts.x"), "https://sts.x cannot be reached"),
        (AwsError({"Error": {}}, "GetThing"), "GetThing failed, unknown"),
    ],
)
def test_other_failures(error: AwsError, shown: str) -> None:
    assert reason_of(error).startswith(shown)
