"""What a reader makes of a file: a title, a date, and blocks of text under their headings."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

MAX_TITLE_CHARACTERS = 200

_BLANK = re.compile(r"\s+")
_ISO_DATE = re.compile(r"(?<!\d)(\d{4})-(\d{2})-(\d{2})(?!\d)")


class UnreadableDocument(ValueError):
    """A file that gives no text; the message is its reason in a few words."""


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, a list's item or a table's row."""

    text: str
    heading: str | None = None
    whole: bool = False
    """A row: it is one sentence, whatever its punctuation."""
    page: int | None = None
    """From 1, where the file has pages."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a reader found. Nothing is made up: what the file does not say is None."""

    blocks: tuple[Block, ...]
    title: str | None = None
    date: str | None = None
    """ISO 8601."""
    url: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def iso_date(value: object) -> str | None:
    """Return the first calendar date in a value as ISO 8601, None where there is none."""
    if isinstance(value, datetime.date):
        return value.isoformat()[:10]
    for match in _ISO_DATE.finditer(str(value)[:200]):
        try:
            return datetime.date(*map(int, match.groups())).isoformat()
        except ValueError:
            continue
    return None


def one_line(text: str, limit: int = MAX_TITLE_CHARACTERS) -> str:
    """Return a text on one line, cut at a limit."""
    return _BLANK.sub(" ", text).strip()[:limit].strip()


# A year, a quarter, a word with its unit in brackets: what a column is called. Not an amount.
_LABEL = re.compile(r"(?:19|20)\d\d\b|[QH][1-4]\b|\d{1,2} [A-Za-z]{3,}|[^\W\d]{2}")


def table_rows(rows: list[list[str]]) -> Iterator[str]:
    """Yield each row of a table as a line that can stand alone: its cells with their columns' names.

    `["€ million", "2025", "2024"], ["Sales", "412", "388"]` gives `Sales (€ million): 2025 412; 2024 388`.
    The first row is the header where every column has a label in it; a row of one cell is a line.
    """
    rows = [[one_line(cell, 400) for cell in row] for row in rows]
    rows = [row for row in rows if any(row)]
    if not rows:
        return
    labels = rows[0][1:]
    header = rows[0] if len(rows) > 1 and labels and all(map(_LABEL.match, labels)) else None
    for row in rows[1:] if header else rows:
        filled = [cell for cell in row if cell]
        if header is None or len(row) != len(header) or len(filled) < 2 or not row[0]:
            yield ": ".join([filled[0], "; ".join(filled[1:])]) if len(filled) > 1 else filled[0]
            continue
        named = [f"{name} {cell}" for name, cell in zip(header[1:], row[1:], strict=True) if cell]
        kind = f" ({header[0]})" if header[0] else ""
        yield f"{row[0]}{kind}: {'; '.join(named)}"
