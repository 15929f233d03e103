"""Long texts in overlapping pieces, each short enough to be judged as one."""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"[^.!?…。！？\n]*(?:[.!?…。！？]+[\"'”’)\]]*|\n|$)\s*")


def segments(text: str, size: int, overlap: int) -> list[str]:
    """Return pieces of at most `size` characters that overlap by about `overlap` characters.

    A piece ends at a sentence's end where one fits, else at a blank, else anywhere. Every stretch
    of up to `overlap` characters lies whole in some piece. A blank text gives none.
    """
    if not 0 <= overlap < size // 2:
        raise ValueError("overlap must be less than half of size")
    found, start = [], 0
    while start < len(text):
        end = _end(text, start, size, overlap)
        if piece := text[start:end].strip():
            found.append(piece)
        if end == len(text):
            break
        start = end - overlap
    return found


def sentences(text: str) -> list[str]:
    """Return the sentences of a text; what has no marks is one."""
    return [found for match in _SENTENCE.finditer(text) if (found := match.group().strip())]


def _end(text: str, start: int, size: int, overlap: int) -> int:
    if len(text) - start <= size:
        return len(text)
    window = text[start : start + size]
    # A piece must go well past the overlap, or the next one would begin where this one did.
    least = overlap + size // 4
    borders = [match.end() for match in _SENTENCE.finditer(window) if least < match.end() < size]
    if not borders:
        borders = [match.end() for match in re.finditer(r"\s", window) if match.end() > least]
    return start + (borders[-1] if borders else size)
