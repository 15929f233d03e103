"""The one way to the chatbot: SageMaker's runtime API through boto3, on this machine or on AWS.

The local host speaks the same API, so both take the same calls. To the local host nothing of the
user's AWS set-up goes along: no credentials, no profile, no proxy; requests are not even signed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.eventstream import ParserError
from botocore.exceptions import BotoCoreError, ConnectTimeoutError, EndpointConnectionError, EventStreamError
from botocore.exceptions import ClientError as AwsError
from urllib3.exceptions import HTTPError

from client.errors import CallFailed, NothingListens, Refused
from client.lines import object_of, objects_of, raise_error_of

if TYPE_CHECKING:
    from botocore.eventstream import EventStream
    from types_boto3_sagemaker_runtime import SageMakerRuntimeClient

DEFAULT_URL = "http://127.0.0.1:8080"
LOCAL_NAME = "local"
LOCAL_READ_TIMEOUT_S = 330
"""Above the time that the local host gives a turn."""
SAGEMAKER_READ_TIMEOUT_S = 130
"""Above SageMaker's 60 s for a plain answer and DJL's 120 s between two chunks of a streamed one."""

_CONTENT_TYPE = "application/json"


class Stream:
    """An answer that arrives in JSON objects. `close` hangs up; it may be called from another thread."""

    def __init__(self, endpoint: Endpoint, body: EventStream[Any]) -> None:
        self._endpoint = endpoint
        self._body = body

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            with self._endpoint.failures():
                yield from objects_of(event["PayloadPart"]["Bytes"] for event in self._body)
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection, which also stops the chatbot where it runs on this machine."""
        self._body.close()


class Endpoint:
    """One chatbot, local or on SageMaker."""

    def __init__(self, client: SageMakerRuntimeClient, name: str, url: str | None = None) -> None:
        self._client = client
        self._name = name
        self._url = url

    @classmethod
    def local(cls, url: str) -> Endpoint:
        """Return the local host at `url`."""
        nothing = (None, None, None, None)
        nowhere = (None, None, os.devnull, None)
        core = botocore.session.Session(
            session_vars={"profile": nothing, "config_file": nowhere, "credentials_file": nowhere}
        )
        config = Config(
            signature_version=UNSIGNED,
            proxies={},
            connect_timeout=5,
            read_timeout=LOCAL_READ_TIMEOUT_S,
            retries={"total_max_attempts": 1},
        )
        session = boto3.Session(botocore_session=core, region_name="us-east-1")
        try:
            client = session.client("sagemaker-runtime", endpoint_url=url, config=config)
        except ValueError as error:  # botocore's own check of the address
            raise CallFailed(f"not an address of a host: {url}") from error
        return cls(client, LOCAL_NAME, url)

    @classmethod
    def sagemaker(cls, name: str, *, region: str | None = None, profile: str | None = None) -> Endpoint:
        """Return an endpoint on SageMaker, with the credentials that boto3 finds.

        Raises:
            CallFailed: no region is set, or there is no such profile.
        """
        # A call that failed half-way may have begun a turn: it is the user who asks again.
        config = Config(
            connect_timeout=10, read_timeout=SAGEMAKER_READ_TIMEOUT_S, retries={"total_max_attempts": 1}
        )
        try:
            session = boto3.Session(profile_name=profile, region_name=region)
            return cls(session.client("sagemaker-runtime", config=config), name)
        except BotoCoreError as error:
            raise CallFailed(str(error)) from error

    def invoke(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return the whole answer.

        Raises:
            Refused, NothingListens, CallFailed: see `client.errors`.
        """
        with self.failures():
            answer = self._client.invoke_endpoint(
                EndpointName=self._name, ContentType=_CONTENT_TYPE, Body=json.dumps(request).encode()
            )
            fields = object_of(answer["Body"].read())
        raise_error_of(fields)
        return fields

    def stream(self, request: Mapping[str, Any]) -> Stream:
        """Send a request and return its answer as it comes; raises as `invoke` does."""
        body = json.dumps({**request, "stream": True}).encode()
        with self.failures():
            answer = self._client.invoke_endpoint_with_response_stream(
                EndpointName=self._name, ContentType=_CONTENT_TYPE, Body=body
            )
        return Stream(self, answer["Body"])

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn what boto3 raises in the block into errors of this package."""
        try:
            yield
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            if self._url is not None:
                raise NothingListens(self._url) from error
            raise CallFailed(str(error)) from error
        except EventStreamError as error:
            raise CallFailed(f"the answer broke off: {_message(error)}") from error
        except AwsError as error:
            raise _failure_of(error) from error
        except BotoCoreError as error:
            raise CallFailed(str(error)) from error
        except (HTTPError, ParserError, OSError) as error:
            raise CallFailed("the answer broke off: the connection was lost") from error


def _failure_of(error: AwsError) -> Refused | CallFailed:
    """Return the wire's error that a ModelError carries, else the call's own."""
    response: Mapping[str, Any] = error.response
    original = response.get("OriginalMessage")
    if original is not None:
        try:
            raise_error_of(object_of(str(original).encode()))
        except Refused as refused:
            return refused
        except CallFailed:
            pass
        return CallFailed(f"the endpoint failed with status {response.get('OriginalStatusCode')}")
    return CallFailed(_message(error))


def _message(error: AwsError) -> str:
    details = error.response.get("Error", {})
    return ": ".join(str(part) for part in (details.get("Code"), details.get("Message")) if part)
