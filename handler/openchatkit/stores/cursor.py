"""Cursors of the list of sessions: a place in one owner's list, as text for a URL.

A cursor holds the last session that was shown and a digest over it and the owner. The digest has
no key, on purpose: instances would have to share a secret, and it would guard nothing. Every query
names the owner it is for, so the worst that a forged cursor could do is to start somebody's own
list at another place. The digest is there so that a mangled cursor, or one of another owner, is
refused rather than answered with a page that makes no sense.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math

from openchatkit.errors import InvalidRequest

_DIGEST_BYTES = 12
Position = tuple[float, str]
"""`updated_at` and id of a session: what the list is sorted by."""


def encode_cursor(owner: str, position: Position) -> str:
    """Return the cursor of the page after `position`; characters are those of `wire.SessionsRequest`."""
    place = json.dumps(position, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_digest(owner, place) + place).decode()


def decode_cursor(owner: str, cursor: str) -> Position:
    """Return the position that a cursor holds.

    Raises:
        InvalidRequest: not a cursor that `encode_cursor` made for this owner.
    """
    refusal = InvalidRequest("cursor: not one that was given for this user")
    try:
        content = base64.b64decode(cursor, altchars=b"-_", validate=True)
        digest, place = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if digest != _digest(owner, place):
            raise refusal
        updated_at, session_id = json.loads(place)
    except (ValueError, TypeError):
        raise refusal from None
    if not isinstance(session_id, str) or not isinstance(updated_at, (int, float)):
        raise refusal
    if not math.isfinite(updated_at):
        raise refusal
    return float(updated_at), session_id


def _digest(owner: str, place: bytes) -> bytes:
    # The owner's length goes first: no two pairs of owner and place give the same bytes.
    name = owner.encode()
    return hashlib.sha256(b"%d:%b%b" % (len(name), name, place)).digest()[:_DIGEST_BYTES]
