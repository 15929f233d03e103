"""Plain text and Markdown, line by line, to blocks.

Front matter is read with the safe loader, without aliases and up to a limit: a few lines of YAML can
otherwise become gigabytes.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator

import yaml

from openchatkit.retrieval.blocks import MAX_TITLE_CHARACTERS, Block, Parsed, iso_date, one_line, table_rows

MAX_FRONT_MATTER_CHARACTERS = 16_384
MAX_LEAD_IN_CHARACTERS = 160

_HEADING = re.compile(r" {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)\s*$")
_ITEM = re.compile(r"\s*(?:[-*+•–]|\d{1,3}[.)])\s+(?=\S)")
_RULE = re.compile(r"[-*_=\s]{3,}$")
_DIVIDER = re.compile(r"\|?[\s:|-]*-[\s:|-]*$")
_COLUMNS = re.compile(r"\t+| {2,}")
_LINK = re.compile(r"!?\[([^\[\]]{0,500})\]\([^()\s]{0,1000}(?: \"[^\"()]{0,200}\")?\)")
_EMPHASIS = re.compile(r"(\*\*|__|~~|`)")
_STAR = re.compile(r"(?<!\w)\*(?=\S)|(?<=\S)\*(?!\w)")
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)


def read_text(text: str) -> Parsed:
    """Read plain text: paragraphs, lists, aligned columns; the first line may be the title."""
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    title = None
    if len(lines) > first + 1 and not lines[first + 1].strip():
        line = lines[first].strip()
        if len(line) <= MAX_TITLE_CHARACTERS and not line.endswith((".", "!", ":", ";", ",")):
            title, lines = line, lines[first + 1 :]
    return Parsed(tuple(_Lines(markdown=False).read(lines)), title=title)


def text_blocks(lines: list[str]) -> tuple[Block, ...]:
    """Return the blocks of plain text that has no title: paragraphs, lists, aligned columns."""
    return tuple(_Lines(markdown=False).read(lines))


def read_markdown(text: str) -> Parsed:
    """Read Markdown with YAML front matter: `title`, `date`, `url`, and other scalars as metadata."""
    metadata, body = _front_matter(text.lstrip("\ufeff"))
    lines = _Lines(markdown=True)
    blocks = tuple(lines.read(_COMMENT.sub(" ", body).splitlines()))
    return Parsed(
        blocks,
        title=metadata.get("title") or lines.title,
        date=iso_date(metadata.get("date", "")),
        url=metadata.get("url"),
        metadata=metadata,
    )


def _front_matter(text: str) -> tuple[dict[str, str], str]:
    """Return the front matter's scalars and the text behind it. Bad YAML counts as none."""
    if not text.startswith("---\n") and not text.startswith("---\r\n"):
        return {}, text
    end = re.compile(r"^(?:---|\.\.\.)\s*$", re.MULTILINE).search(text, 4)
    if end is None:
        return {}, text
    if end.start() > MAX_FRONT_MATTER_CHARACTERS:
        return {}, text[end.end() :]
    try:
        values = yaml.load(text[4 : end.start()], Loader=_PlainLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError):
        values = None
    found = values if isinstance(values, dict) else {}
    scalars = {
        str(key): one_line(str(value))
        for key, value in found.items()
        if isinstance(value, str | int | float | datetime.date)
    }
    return scalars, text[end.end() :]


class _PlainLoader(yaml.SafeLoader):
    """The safe loader without aliases, whose expansion is how a few lines become gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


class _Lines:
    """Lines to blocks. `title` is the first heading of level one, if there was any."""

    def __init__(self, *, markdown: bool) -> None:
        self.title: str | None = None
        self._markdown = markdown
        self._heading: str | None = None
        self._paragraph: list[str] = []
        self._table: list[list[str]] = []
        self._lead_in = ""
        self._item = False

    def read(self, lines: list[str]) -> Iterator[Block]:
        """Yield the blocks of a document's lines."""
        for line in lines:
            text = line.strip().lstrip(">").strip() if self._markdown else line.strip()
            row = self._row(line, text)
            if row is None:
                yield from self._end_table()
            if not text or (self._markdown and text.startswith("```")):
                yield from self._end_paragraph()
            elif row is not None:
                yield from self._end_paragraph()
                self._table += [row] if row else []
            elif self._markdown and (match := _HEADING.match(line)):
                yield from self._end_paragraph()
                self._head(len(match.group(1)), match.group(2))
            elif self._markdown and len(self._paragraph) == 1 and _UNDERLINE.match(line):
                self._head(1 if "=" in line else 2, self._paragraph.pop())
            elif _RULE.match(text):
                yield from self._end_paragraph()
            elif match := _ITEM.match(line):
                yield from self._end_paragraph()
                self._item = True
                self._paragraph = [line[match.end() :].strip()]
            else:
                self._paragraph.append(text)
        yield from self._end_table()
        yield from self._end_paragraph()

    def _row(self, line: str, text: str) -> list[str] | None:
        """Return the cells of a table's row, none for its divider, None for another line."""
        if self._markdown and text.startswith("|"):
            return [] if _DIVIDER.fullmatch(text) else [c.strip() for c in text.strip("|").split("|")]
        if not self._markdown and not _ITEM.match(line):
            cells = _COLUMNS.split(text)
            # Two columns could be a paragraph with a double blank; three are a table.
            return cells if len(cells) > 2 else None
        return None

    def _head(self, level: int, text: str) -> None:
        heading = one_line(_plain(text))
        if level == 1 and self.title is None:
            self.title = heading
            self._heading = None
        else:
            self._heading = heading or None
        self._lead_in = ""

    def _end_paragraph(self) -> Iterator[Block]:
        if not self._paragraph:
            return
        text = one_line(" ".join(self._paragraph), len(" ".join(self._paragraph)))
        text = _plain(text) if self._markdown else text
        self._paragraph = []
        if self._item:
            # An item without the words that lead to it says nothing by itself.
            yield Block(f"{self._lead_in} {text}".strip(), self._heading)
        else:
            short = text.endswith(":") and len(text) <= MAX_LEAD_IN_CHARACTERS
            self._lead_in = text if short else ""
            if not short:
                yield Block(text, self._heading)
        self._item = False

    def _end_table(self) -> Iterator[Block]:
        rows, self._table = self._table, []
        for row in table_rows(rows):
            yield Block(_plain(row) if self._markdown else row, self._heading, whole=True)


def _plain(text: str) -> str:
    """Return Markdown's inline markup as plain text."""
    return _STAR.sub("", _EMPHASIS.sub("", _LINK.sub(r"\1", text)))
