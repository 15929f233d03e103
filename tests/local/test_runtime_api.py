"""An unmodified boto3 client against the local host: plain, streamed, and its errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError, EventStreamError

from openchatkit.wire import MAX_BODY_BYTES
from tests.local.live import FakeInvocations, LiveHost, Payload

if TYPE_CHECKING:
    from types_boto3_sagemaker_runtime import SageMakerRuntimeClient


@pytest.fixture
def client(host: LiveHost) -> Iterator[SageMakerRuntimeClient]:
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=host.url,
        region_name="eu-west-1",
        aws_access_key_id="id",
        aws_secret_access_key="secret",
    )
    yield client
    client.close()


def test_invoke_endpoint(client: SageMakerRuntimeClient, fake: FakeInvocations, payload: Payload) -> None:
    answer = client.invoke_endpoint(
        EndpointName="any-name",
        Body=payload("grüß Gott"),
        ContentType="application/json",
        CustomAttributes="trace=1",
        SessionId="abc",
    )
    assert json.loads(answer["Body"].read()) == {"generated_text": "grüß Gott"}
    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == "chat"
    assert fake.bodies == [payload("grüß Gott")]
    assert fake.headers[0]["x-amzn-sagemaker-custom-attributes"] == "trace=1"
    assert fake.headers[0]["x-amzn-sagemaker-session-id"] == "abc"


def test_a_streamed_answer_through_the_plain_call(client: SageMakerRuntimeClient, payload: Payload) -> None:
    answer = client.invoke_endpoint(EndpointName="x", Body=payload("a b", stream=True))
    lines = answer["Body"].read().splitlines()
    assert [json.loads(line)["token"]["text"] for line in lines if line] == ["", "a", "b"]
    assert answer["ContentType"] == "application/jsonlines"


def test_invoke_endpoint_with_response_stream(
    client: SageMakerRuntimeClient, fake: FakeInvocations, payload: Payload
) -> None:
    answer = client.invoke_endpoint_with_response_stream(
        EndpointName="x", Body=payload("ä " + "long" * 50_000, stream=True), Accept="application/jsonlines"
    )
    content = b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"])
    words = [json.loads(line)["token"]["text"] for line in content.splitlines() if line]
    assert words == ["", "ä", "long" * 50_000]
    assert answer["ContentType"] == "application/jsonlines"
    assert answer["InvokedProductionVariant"] == "chat"
    assert fake.headers[0]["accept"] == "application/jsonlines"
    assert fake.closed.wait(1)


def test_a_plain_answer_through_the_streamed_call(client: SageMakerRuntimeClient, payload: Payload) -> None:
    answer = client.invoke_endpoint_with_response_stream(EndpointName="x", Body=payload("hi"))
    assert b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"]) == b'{"generated_text": "hi"}'
    assert answer["ContentType"] == "application/json"


@pytest.mark.parametrize("operation", ["invoke_endpoint", "invoke_endpoint_with_response_stream"])
def test_a_refusal_is_a_model_error(client: SageMakerRuntimeClient, payload: Payload, operation: str) -> None:
    with pytest.raises(client.exceptions.ModelError) as caught:
        getattr(client, operation)(EndpointName="x", Body=payload("refuse"))
    response: Mapping[str, Any] = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 400
    assert json.loads(response["OriginalMessage"]) == {
        "error": "invalid_request: inputs: refused",
        "code": 400,
    }
    assert response["Error"]["Message"].startswith("Received client error (400) from chat with message ")


@pytest.mark.parametrize("operation", ["invoke_endpoint", "invoke_endpoint_with_response_stream"])
def test_an_unforeseen_exception_is_a_model_error_too(
    client: SageMakerRuntimeClient, payload: Payload, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(client.exceptions.ModelError) as caught:
        getattr(client, operation)(EndpointName="x", Body=payload("unforeseen"))
    response: Mapping[str, Any] = caught.value.response
    assert response["OriginalStatusCode"] == 500
    assert "RuntimeError" in caplog.text
    assert "canary-text" not in caplog.text + str(caught.value)


def test_a_stream_that_breaks_is_a_model_stream_error(
    client: SageMakerRuntimeClient, payload: Payload, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.invoke_endpoint_with_response_stream(EndpointName="x", Body=payload("break", stream=True))
    events = iter(answer["Body"])
    assert next(events)["PayloadPart"]["Bytes"] == b'{"token":{"text":""}}\n'
    with pytest.raises(EventStreamError) as caught:
        next(events)
    answer["Body"].close()
    assert caught.value.response["Error"]["Code"] == "ModelStreamError"
    assert "canary-text" not in caplog.text + str(caught.value)


def test_a_stateful_session_is_opened_by_the_plain_call(
    client: SageMakerRuntimeClient, payload: Payload
) -> None:
    answer = client.invoke_endpoint(EndpointName="x", Body=payload("session"), SessionId="NEW_SESSION")
    assert answer["NewSessionId"] == "abc; Expires=2030-01-01T00:00:00Z"


def test_a_stateful_session_cannot_be_opened_by_the_streamed_call(
    client: SageMakerRuntimeClient, fake: FakeInvocations, payload: Payload
) -> None:
    with pytest.raises(client.exceptions.ValidationError, match="InvokeEndpoint"):
        client.invoke_endpoint_with_response_stream(
            EndpointName="x", Body=payload("hi"), SessionId="NEW_SESSION"
        )
    assert not fake.bodies


@pytest.mark.parametrize("name", ["under_score", "a" * 64, "-x", "ä"])
def test_a_bad_endpoint_name_is_a_validation_error(
    client: SageMakerRuntimeClient, payload: Payload, name: str
) -> None:
    with pytest.raises(client.exceptions.ValidationError, match="EndpointName"):
        client.invoke_endpoint(EndpointName=name, Body=payload("hi"))


@pytest.mark.parametrize("operation", ["invoke_endpoint", "invoke_endpoint_with_response_stream"])
def test_a_body_above_the_limit_is_refused(
    client: SageMakerRuntimeClient, fake: FakeInvocations, operation: str
) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(client, operation)(EndpointName="x", Body=b"x" * 10_000_000)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert str(MAX_BODY_BYTES) in str(caught.value)
    assert not fake.bodies
