"""What a request may say: each rule refused by name, each limit at its border."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchatkit import wire
from openchatkit.errors import InvalidRequest, OpenChatKitError, TooLarge

REFUSED: list[tuple[Any, str]] = [
    (b"", "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b'{"inputs": "a"', "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b'{"inputs": "\\ud800"}', "not JSON"),
    (b'{"inputs": "a", "parameters": {"temperature": NaN}}', "not JSON"),
    ([], "must be a JSON object"),
    ("text", "must be a JSON object"),
    ({}, "inputs: Field required"),
    ({"inputs": ""}, "inputs: must not be empty"),
    ({"inputs": " \n\t "}, "inputs: must not be empty"),
    ({"inputs": None}, "inputs: "),
    ({"inputs": 5}, "inputs: "),
    ({"inputs": ["a"]}, "inputs: "),
    ({"inputs": "a\u0000b"}, "inputs: must not hold control characters"),
    ({"inputs": "a" * (wire.MAX_INPUT_CHARACTERS + 1)}, "inputs: .*16384"),
    ({"inputs": "a", "unknown": 1}, "unknown: Extra inputs are not permitted"),
    ({"inputs": "a", "parameters": {"temprature": 1}}, "parameters.temprature: Extra"),
    ({"inputs": "a", "parameters": {"temperature": -0.1}}, "parameters.temperature: "),
    ({"inputs": "a", "parameters": {"temperature": 2.1}}, "parameters.temperature: "),
    ({"inputs": "a", "parameters": {"temperature": "1"}}, "parameters.temperature: "),
    ({"inputs": "a", "parameters": {"top_p": 0}}, "parameters.top_p: "),
    ({"inputs": "a", "parameters": {"top_k": -1}}, "parameters.top_k: "),
    ({"inputs": "a", "parameters": {"top_k": 1.5}}, "parameters.top_k: "),
    ({"inputs": "a", "parameters": {"max_new_tokens": 0}}, "parameters.max_new_tokens: "),
    ({"inputs": "a", "parameters": {"max_new_tokens": True}}, "parameters.max_new_tokens: "),
    ({"inputs": "a", "parameters": {"max_new_tokens": 10**9}}, "parameters.max_new_tokens: "),
    ({"inputs": "a", "parameters": {"repetition_penalty": 0}}, "parameters.repetition_penalty: "),
    ({"inputs": "a", "parameters": {"seed": -1}}, "parameters.seed: "),
    ({"inputs": "a", "parameters": {"stop": [""]}}, "parameters.stop.0: must not be empty"),
    ({"inputs": "a", "parameters": {"stop": ["x"] * 9}}, "parameters.stop: "),
    ({"inputs": "a", "parameters": {"return_full_text": True}}, "parameters.return_full_text: "),
    ({"inputs": "a", "session_id": "../x"}, "session_id: "),
    ({"inputs": "a", "session_id": ""}, "session_id: "),
    ({"inputs": "a", "session_id": "a" * 129}, "session_id: "),
    ({"inputs": "a", "user_id": "a b"}, "user_id: "),
    ({"inputs": "a", "stream": "yes"}, "stream: "),
    ({"inputs": "a", "retrieval": {"k": 11}}, "retrieval.k: "),
    ({"inputs": "a", "retrieval": {"sources": ["A!"]}}, "retrieval.sources.0: "),
    ({"inputs": "a", "moderation": {"input": 0}}, "moderation.input: "),
    ({"inputs": "a", "replace_turn": 1}, "replace_turn needs a session_id"),
    ({"messages": []}, "messages: "),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role: "),
    ({"messages": [{"role": "assistant", "content": "a"}]}, "must end with a user's message"),
    ({"messages": [{"role": "user", "content": "a"}] * 2}, "must take turns"),
    ({"messages": [{"role": "user", "content": "a"}], "n": 2}, "n: "),
    ({"messages": [{"role": "user", "content": "a"}], "tools": []}, "tools: Extra"),
    ({"requestType": "MODERATE", "inputs": ""}, "^inputs: must not be empty$"),
    ({"messages": [{"role": "user", "content": ""}]}, "^messages.0.content: must not be empty$"),
    ({"inputs": "a", "list[": 1}, r"^list\[: Extra"),
    ({"requestType": "DROP"}, "requestType: must be one of CANCEL"),
    ({"requestType": ["CANCEL"]}, "requestType: must be one of CANCEL"),
    ({"requestType": "CANCEL"}, "session_id: Field required"),
    ({"requestType": "FEEDBACK", "session_id": "a", "turn": 0, "rating": "up"}, "turn: "),
    ({"requestType": "FEEDBACK", "session_id": "a", "turn": 1, "rating": "best"}, "rating: "),
    ({"requestType": "SESSIONS", "limit": 101}, "limit: "),
    ({"requestType": "MODERATE", "inputs": ["a", "b"], "bot": "c"}, "bot goes with a single text"),
]


@pytest.mark.parametrize(("body", "message"), REFUSED)
def test_refused_with_the_field_and_the_rule(body: Any, message: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(InvalidRequest, match=message) as caught:
        wire.parse_request(data)
    assert caught.value.message.isascii()
    assert "\n" not in caught.value.message


def test_a_body_over_the_limit_is_too_large() -> None:
    with pytest.raises(TooLarge, match="6291456"):
        wire.parse_request(b" " * (wire.MAX_BODY_BYTES + 1))


def test_limits_are_inclusive() -> None:
    request = wire.parse_request(json.dumps({"inputs": "a" * wire.MAX_INPUT_CHARACTERS}).encode())
    assert isinstance(request, wire.ChatRequest)


def test_an_lmi_client_works_unchanged() -> None:
    body = {
        "inputs": "What is Deep Learning?",
        "parameters": {
            "do_sample": True,
            "max_new_tokens": 256,
            "temperature": 0.6,
            "top_k": 40,
            "top_p": 0.9,
            "repetition_penalty": 1.03,
            "stop_sequences": ["\n\n"],
            "details": True,
            "return_full_text": False,
            "seed": 1,
        },
        "stream": True,
    }
    request = wire.parse_request(json.dumps(body).encode())
    assert isinstance(request, wire.ChatRequest)
    assert request.parameters.stop == ["\n\n"]


TYPES: list[tuple[dict[str, Any], type]] = [
    ({"requestType": "CANCEL", "session_id": "a"}, wire.CancelRequest),
    ({"requestType": "HISTORY", "session_id": "a"}, wire.HistoryRequest),
    ({"requestType": "SESSIONS"}, wire.SessionsRequest),
    ({"requestType": "DELETE", "session_id": "a"}, wire.DeleteRequest),
    ({"requestType": "RENAME", "session_id": "a", "title": "t"}, wire.RenameRequest),
    ({"requestType": "FEEDBACK", "session_id": "a", "turn": 1, "rating": "up"}, wire.FeedbackRequest),
    ({"requestType": "NEW_SESSION"}, wire.NewSessionRequest),
    ({"requestType": "CLOSE", "session_id": "a"}, wire.CloseRequest),
    ({"requestType": "MODERATE", "inputs": "a"}, wire.ModerateRequest),
    ({"messages": [{"role": "user", "content": "a"}]}, wire.MessagesRequest),
    ({"inputs": "a"}, wire.ChatRequest),
]


@pytest.mark.parametrize(("fields", "expected"), TYPES)
def test_shapes_are_told_apart(fields: dict[str, Any], expected: type) -> None:
    assert type(wire.request_from(fields)) is expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["inputs", "messages", "requestType", "parameters", "session_id", "stream", "turn"])


@given(st.dictionaries(KEYS | st.text(max_size=8), JSON, max_size=6))
def test_any_object_parses_or_is_refused(fields: dict[str, Any]) -> None:
    try:
        wire.parse_request(json.dumps(fields).encode())
    except OpenChatKitError as error:
        assert 400 <= error.status < 500


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(body: bytes) -> None:
    try:
        wire.parse_request(body)
    except InvalidRequest as error:
        body_of = wire.error_body(error)
        assert body_of["code"] == 400


def test_filters_are_dates_and_labels() -> None:
    filters = {"date_from": "2025-01-01", "date_to": "2025-12-31", "company": ["Orla"], "kind": ["10-K"]}
    request = wire.request_from({"inputs": "x", "retrieval": {"filters": filters}})
    assert isinstance(request, wire.ChatRequest)
    assert request.retrieval.filters.model_dump() == {**filters, "source": []}


@pytest.mark.parametrize(
    ("filters", "place"),
    [
        ({"date_from": "2025-02-30"}, "date_from"),
        ({"date_from": "yesterday"}, "date_from"),
        ({"date_from": "2025-02-01", "date_to": "2025-01-01"}, "filters"),
        ({"company": [""]}, "company"),
        ({"company": ["x" * 201]}, "company"),
        ({"kind": ["x"] * 33}, "kind"),
        ({"source": "x"}, "source"),
        ({"ticker": ["x"]}, "ticker"),
    ],
)
def test_filters_that_break_a_rule_are_refused(filters: dict[str, object], place: str) -> None:
    with pytest.raises(InvalidRequest, match=place):
        wire.request_from({"inputs": "x", "retrieval": {"filters": filters}})
