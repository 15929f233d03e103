"""AWS's event stream encoding, the side that botocore does not have: bytes for its decoder.

One message is a prelude (total length, headers' length, CRC32 of both), headers, payload and the
CRC32 of all that; lengths and sums are big-endian 32-bit. Only string headers are needed here:

    https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html

AWS's own encoder in Python, `smithy-aws-event-stream`, needs Python 3.12, and awscrt keeps its one
behind an RPC client; the tests hold these forty lines against botocore's decoder.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping

CONTENT_TYPE = "application/vnd.amazon.eventstream"
MAX_PART_BYTES = 64 * 1024
"""Most payload of one PayloadPart; botocore refuses messages above 16 MiB."""

_STRING = 7


def encode_message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one message.

    Raises:
        ValueError: a header's name (255 bytes) or value (65,535 bytes) is too long.
    """
    head = b"".join(_encode_header(name, value) for name, value in headers.items())
    lengths = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    message = lengths + struct.pack("!I", zlib.crc32(lengths)) + head + payload
    return message + struct.pack("!I", zlib.crc32(message))


def _encode_header(name: str, value: str) -> bytes:
    name_bytes, value_bytes = name.encode(), value.encode()
    if not 0 < len(name_bytes) < 2**8 or len(value_bytes) >= 2**16:
        raise ValueError("a header's name has 1 to 255 bytes, its value at most 65,535")
    return (
        struct.pack("!B", len(name_bytes))
        + name_bytes
        + struct.pack("!BH", _STRING, len(value_bytes))
        + value_bytes
    )


def payload_parts(content: bytes) -> Iterator[bytes]:
    """Yield `content` as PayloadPart events of SageMaker's response stream."""
    headers = {
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }
    for start in range(0, len(content), MAX_PART_BYTES):
        yield encode_message(headers, content[start : start + MAX_PART_BYTES])


def model_stream_error(message: str, error_code: str) -> bytes:
    """Return the exception with which SageMaker ends a stream that its container broke."""
    headers = {
        ":exception-type": "ModelStreamError",
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return encode_message(headers, json.dumps({"Message": message, "ErrorCode": error_code}).encode())
