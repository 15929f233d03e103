"""Bytes of a file to its title, date and blocks of text: .txt, .md and .html.

What a file says is data: no reader opens anything else, and every one is linear in the length of its
input. PDF files have pages and are read from their path (`pdf_reader`), files of records one record at a
time (`records`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from openchatkit.retrieval.blocks import Parsed, UnreadableDocument
from openchatkit.retrieval.html_reader import read_html
from openchatkit.retrieval.markdown_reader import read_markdown, read_text

BINARY_SHARE = 0.01
"""Share of control characters above which bytes are no text."""

_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def decode(data: bytes) -> str:
    """Return bytes as text: UTF-8 or UTF-16 (with or without a mark), else Windows-1252 or Latin-1.

    Raises:
        UnreadableDocument: the bytes are no text.
    """
    text = _decode(data)
    controls = len(_CONTROLS.findall(text))
    if controls > max(0, len(text) * BINARY_SHARE):
        raise UnreadableDocument("binary")
    return _CONTROLS.sub(" ", text)


def _decode(data: bytes) -> str:
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    candidates = ["utf-16"] if marked else ["utf-8-sig"]
    sample = data[:4096]
    if not marked and sample.count(0) > len(sample) // 4:
        # Latin text in UTF-16 has a zero in every second byte.
        candidates = ["utf-16-le" if sample[1::2].count(0) > sample[0::2].count(0) else "utf-16-be"]
    elif not marked:
        candidates += ["cp1252", "latin-1"]
    for encoding in candidates:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UnreadableDocument("binary")


Reader = Callable[[str], Parsed]
READERS: Mapping[str, Reader] = {
    ".txt": read_text,
    ".text": read_text,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".html": read_html,
    ".htm": read_html,
}
"""Readers by suffix, lower case."""
