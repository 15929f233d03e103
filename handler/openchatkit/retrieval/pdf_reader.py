"""PDF files to blocks: lines, paragraphs, headings and tables as they stand on their pages.

PDFium finds the runs of text and where they stand; lines, columns and headings are made of that. Text
that is a picture is not read (no OCR). PDFium is C++ and is fed files from anywhere: run this in a
process that may die (`indexing.reading`).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pypdfium2 as pdfium  # type: ignore[import-untyped]

from openchatkit.retrieval.blocks import Block, Parsed, UnreadableDocument, iso_date, one_line
from openchatkit.retrieval.markdown_reader import text_blocks

MAX_PAGES = 5000
COLUMN_GAP = 1.0
"""Blank between two runs, in heights of a line, that sets two columns apart."""
PARAGRAPH_GAP = 0.9
"""Blank above a line, in heights of a line, that starts a paragraph."""
HEADING_HEIGHT = 1.15
"""Height of a heading over that of the page's text."""
MAX_HEADING_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    top: float
    height: float


def read_pdf(path: Path) -> Parsed:
    """Read a PDF file: title and date of its properties, blocks with their pages.

    Raises:
        UnreadableDocument: it is broken, encrypted, or has no text.
    """
    try:
        document = pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        encrypted = "password" in str(error).lower()
        raise UnreadableDocument("encrypted" if encrypted else "broken PDF") from error
    try:
        blocks: list[Block] = []
        heading: str | None = None
        for number in range(min(len(document), MAX_PAGES)):
            try:
                lines = _lines(document[number])
            except pdfium.PdfiumError:
                continue  # a page that cannot be opened costs itself only
            found = list(_blocks(lines, number + 1, heading))
            heading = found[-1].heading if found else heading
            blocks += found
        properties = document.get_metadata_dict()
    finally:
        document.close()
    if not blocks:
        raise UnreadableDocument("no text")
    return Parsed(
        tuple(blocks),
        title=one_line(properties.get("Title", "")) or blocks[0].heading,
        date=_pdf_date(properties.get("CreationDate", "")),
    )


def _pdf_date(value: str) -> str | None:
    """`D:20260312090000Z` as ISO 8601."""
    digits = value.removeprefix("D:")[:8]
    return iso_date(f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}") if digits.isdecimal() else None


def _lines(page: pdfium.PdfPage) -> list[_Line]:
    """Return a page's lines from the top down; a wide blank becomes several, as in a table."""
    text = page.get_textpage()
    runs: list[tuple[float, float, float, float, str]] = []
    for number in range(text.count_rects()):
        left, bottom, right, top = text.get_rect(number)
        content = one_line(text.get_text_bounded(left, bottom, right, top), 10_000)
        if content:
            runs.append((left, bottom, right, top, content))
    rows: list[list[tuple[float, float, float, float, str]]] = []
    for run in sorted(runs, key=lambda run: -(run[1] + run[3])):
        middle = (run[1] + run[3]) / 2
        row = rows[-1] if rows else None
        if row and row[0][1] <= middle <= row[0][3]:
            row.append(run)
        else:
            rows.append([run])
    return [_line(sorted(row)) for row in rows]


def _line(row: Sequence[tuple[float, float, float, float, str]]) -> _Line:
    height = max(run[3] - run[1] for run in row)
    parts = [row[0][4]]
    for before, run in pairwise(row):
        gap = run[0] - before[2]
        parts.append(("  " if gap > COLUMN_GAP * height else " " if gap > 0.1 * height else "") + run[4])
    return _Line("".join(parts), max(run[3] for run in row), height)


def _blocks(lines: Sequence[_Line], page: int, heading: str | None) -> Iterator[Block]:
    """Yield a page's blocks; the heading of the page before goes on."""
    if not lines:
        return
    usual = statistics.median(line.height for line in lines)
    paragraph: list[str] = []
    bottom = lines[0].top
    for line in lines:
        large = line.height > HEADING_HEIGHT * usual and len(line.text) <= MAX_HEADING_CHARACTERS
        large = large and any(character.isalpha() for character in line.text)
        if large:
            yield from _paragraph(paragraph, heading, page)
            paragraph, heading = [], one_line(line.text)
        else:
            if paragraph and bottom - line.top > PARAGRAPH_GAP * usual:
                paragraph.append("")
            paragraph.append(line.text)
        bottom = line.top - line.height
    yield from _paragraph(paragraph, heading, page)


def _paragraph(lines: list[str], heading: str | None, page: int) -> Iterator[Block]:
    for block in text_blocks(lines):
        yield Block(block.text, heading, block.whole, page)
