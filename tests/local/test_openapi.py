"""The host's OpenAPI document, and schemathesis over it against the real chatbot."""

from __future__ import annotations

import json
import urllib.request
from typing import Any, cast

import schemathesis
from hypothesis import HealthCheck, settings

from local import openapi
from local.host import create_app
from openchatkit import wire
from openchatkit.invocations import Invocations
from tests.local.live import FakeInvocations, LiveHost


def document(host: LiveHost) -> dict[str, Any]:
    with urllib.request.urlopen(f"{host.url}/openapi.json", timeout=10) as response:
        fields: dict[str, Any] = json.load(response)
    return fields


def test_every_route_and_every_schema_of_the_wire_is_described(host: LiveHost) -> None:
    described = document(host)
    assert set(described["paths"]) == {
        "/ping",
        "/invocations",
        "/endpoints/{name}/invocations",
        "/endpoints/{name}/invocations-response-stream",
        "/v1/chat/completions",
        "/v1/models",
    }
    assert set(described["components"]["schemas"]) >= {
        model.__name__ for model in (*openapi.REQUESTS, *openapi.REPLIES)
    }


def test_every_reference_leads_somewhere(host: LiveHost) -> None:
    described = document(host)
    text = json.dumps(described)
    referred = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert referred <= set(described["components"]["schemas"])


def test_every_request_of_the_wire_is_listed() -> None:
    assert set(openapi.REQUESTS) == set(wire.Request.__args__)


CONFIG = schemathesis.Config.from_dict(
    {
        "checks": {
            # The wire has rules that JSON Schema cannot say: blank text, whose turn it is, ...
            "positive_data_acceptance": {"enabled": False},
            # SageMaker's runtime API answers 424 to what the container refuses.
            "negative_data_rejection": {"expected-statuses": ["400", "403", "404", "405", "413", "424"]},
        }
    }
)
# The document is the same without a chatbot behind it; the calls go to the live host.
schema = schemathesis.openapi.from_dict(
    create_app(cast("Invocations", FakeInvocations())).openapi(), config=CONFIG
)


@schema.parametrize()
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_schemathesis_finds_nothing(case: schemathesis.Case[Any], live_host: LiveHost) -> None:
    """No 5xx, and no answer that the document does not describe."""
    case.call_and_validate(base_url=live_host.url)
