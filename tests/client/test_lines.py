"""Lines put together again, wherever the parts were cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import CallFailed, Refused
from client.lines import MAX_LINE_BYTES, lines_of, object_of, objects_of


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20)), max_size=6), st.data())
def test_objects_survive_any_cut(objects: list[dict[str, str]], data: st.DataObject) -> None:
    body = b"".join(
        json.dumps(each, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n" for each in objects
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=10)))
    parts = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert list(objects_of(parts)) == objects


def test_blank_lines_are_heartbeats() -> None:
    assert list(objects_of([b"\n", b'{"a"', b": 1}\n\n", b"\n"])) == [{"a": 1}]


def test_the_last_line_needs_no_end() -> None:
    assert list(lines_of([b"a\nb"])) == [b"a", b"b"]


def test_an_error_line_ends_the_stream() -> None:
    objects = objects_of([b'{"a": 1}\n{"error": "timeout: too long", "code": 504}\n{"b": 2}\n'])
    assert next(objects) == {"a": 1}
    with pytest.raises(Refused, match=r"^timeout: too long$") as caught:
        next(objects)
    assert (caught.value.code, caught.value.status) == ("timeout", 504)


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"\xff", b'"text"'])
def test_what_is_no_object_is_not_the_chatbot(body: bytes) -> None:
    with pytest.raises(CallFailed, match="is this endpoint the chatbot"):
        object_of(body)


def test_a_line_without_an_end_is_not_collected_for_ever() -> None:
    with pytest.raises(CallFailed, match="too long"):
        list(lines_of(b"x" * (1 << 20) for _ in range(2 * MAX_LINE_BYTES >> 20)))
