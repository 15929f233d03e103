"""The encoder against botocore's decoder."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from local.event_stream import MAX_PART_BYTES, encode_message, model_stream_error, payload_parts


def decode(data: bytes) -> list[Any]:
    """Return the messages of a stream; botocore's stubs take their headers for a number."""
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return list(buffer)


NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=255)


@given(st.dictionaries(NAMES, st.text(max_size=300), max_size=5), st.binary(max_size=4096))
def test_a_message_is_what_botocore_reads(headers: dict[str, str], payload: bytes) -> None:
    (message,) = decode(encode_message(headers, payload))
    assert message.headers == headers
    assert message.payload == payload


@given(st.lists(st.binary(min_size=1, max_size=512), max_size=8), st.data())
def test_parts_carry_the_content_however_the_network_cuts_them(
    contents: list[bytes], data: st.DataObject
) -> None:
    encoded = b"".join(part for content in contents for part in payload_parts(content))
    cut = data.draw(st.integers(0, len(encoded)))
    buffer = EventStreamBuffer()
    messages = []
    for piece in (encoded[:cut], encoded[cut:]):
        buffer.add_data(piece)
        messages += list(buffer)
    assert b"".join(message.payload for message in messages) == b"".join(contents)
    assert all(message.to_response_dict()["status_code"] == 200 for message in messages)


def test_a_long_content_is_cut_into_parts() -> None:
    content = bytes(range(256)) * (MAX_PART_BYTES // 256) + b"rest"
    messages = decode(b"".join(payload_parts(content)))
    assert [len(message.payload) for message in messages] == [MAX_PART_BYTES, 4]
    assert messages[0].headers == {
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }


def test_nothing_makes_no_part() -> None:
    assert list(payload_parts(b"")) == []


def test_a_stream_error_is_an_exception_of_the_service_model() -> None:
    (message,) = decode(model_stream_error("broken", "StreamBroken"))
    assert message.headers[":exception-type"] == "ModelStreamError"
    assert message.to_response_dict()["status_code"] == 400
    assert message.payload == b'{"Message": "broken", "ErrorCode": "StreamBroken"}'


@pytest.mark.parametrize("headers", [{"": "x"}, {"n" * 256: "x"}, {"n": "x" * 65_536}])
def test_a_header_too_long_for_its_length_field_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="a header's name"):
        encode_message(headers, b"")
