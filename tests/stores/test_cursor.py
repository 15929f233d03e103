from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from openchatkit import wire
from openchatkit.errors import InvalidRequest
from openchatkit.stores.cursor import decode_cursor, encode_cursor

OWNERS = st.from_regex(r"\A[A-Za-z0-9_.@:+|=/-]{1,128}\Z")
IDS = st.from_regex(r"\A[A-Za-z0-9]{1,128}\Z")
TIMES = st.floats(allow_nan=False, allow_infinity=False)


@given(owner=OWNERS, updated_at=TIMES, session_id=IDS)
def test_a_cursor_fits_the_wire_and_comes_back(owner: str, updated_at: float, session_id: str) -> None:
    cursor = encode_cursor(owner, (updated_at, session_id))
    fields = {"requestType": "SESSIONS", "user_id": owner, "cursor": cursor}
    assert wire.validate(wire.SessionsRequest, fields).cursor == cursor
    assert decode_cursor(owner, cursor) == (updated_at, session_id)


@given(owner=OWNERS, other=OWNERS, session_id=IDS)
def test_a_cursor_is_for_its_owner(owner: str, other: str, session_id: str) -> None:
    cursor = encode_cursor(owner, (1.5, session_id))
    if owner != other:
        with pytest.raises(InvalidRequest):
            decode_cursor(other, cursor)


@given(forged=st.text(max_size=200))
def test_anything_else_is_refused(forged: str) -> None:
    with pytest.raises(InvalidRequest):
        decode_cursor("ada", forged)


@given(place=st.integers(0, 1000), cursor=st.just(encode_cursor("ada", (1.5, "s1"))))
def test_a_changed_character_is_noticed(place: int, cursor: str) -> None:
    place %= len(cursor.rstrip("="))
    changed = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
    with pytest.raises(InvalidRequest):
        decode_cursor("ada", changed)


def test_the_wire_refuses_other_characters() -> None:
    with pytest.raises((InvalidRequest, ValidationError)):
        wire.validate(wire.SessionsRequest, {"requestType": "SESSIONS", "cursor": "a/b"})
