"""Documents of sentences: what a reader's blocks become, and what an index holds.

A document's `path` is its id: the path of its file below the folder it was found in, and for a file of
many records also the record's number (`news.jsonl:17`). It never depends on other documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from openchatkit.retrieval.blocks import Block, Parsed, UnreadableDocument, iso_date, one_line
from openchatkit.retrieval.splitter import split_sentences

MAX_SENTENCES = 20_000
"""Of one document: some 500 pages of a report. A longer one is cut off and named."""
MAX_ROW_CHARACTERS = 1000
"""Of a table's row, which is one sentence however long it is."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence as it stands in its document."""

    text: str
    place: str | None
    """The heading it stands under."""
    leans: bool
    """It needs the sentence before it to be understood: `It costs $49 per user.`"""
    page: int | None = None
    """From 1, where the file has pages."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file, or a record of a file, that was read."""

    path: str
    sha256: str
    """Of the file's bytes; of a record's text."""
    title: str
    sentences: tuple[Sentence, ...]
    date: str | None = None
    url: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def label(self, name: str) -> str | None:
        """Return what filters compare: the metadata's `company`, `kind` or `source`."""
        return next((self.metadata[key] for key in LABEL_KEYS[name] if self.metadata.get(key)), None)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was left out, or read in part, and why."""

    path: str
    reason: str


LABEL_KEYS: Mapping[str, tuple[str, ...]] = {
    "company": ("company", "company_name", "issuer", "entity", "ticker"),
    "kind": ("kind", "form", "form_type", "document_type", "type", "category"),
    "source": ("source", "publisher", "provider"),
}
"""Names that metadata of the wild gives to what passages are filtered by, best first."""

# Words that point back. `The company` and the like name their subject by its kind only.
_LEANING = re.compile(
    r"[\"'“‘(]*(?:It|Its|He|His|She|Her|They|Their|Them|This|These|That|Those|Such|Both|Neither|Half|"
    r"The (?:company|group|firm|bank|airline|business|maker|latter|former|deal|purchase|sale|project|plant|"
    r"factory|programme|program|figure|amount|sum|move|decision|offer|bond|paper|closures?|cuts?))\b"
)


def leans(text: str) -> bool:
    """Return whether a sentence opens with a word that points to the one before it."""
    return bool(_LEANING.match(text))


def document_from(parsed: Parsed, *, path: str, sha256: str) -> Document:
    """Return what a reader found as a document.

    Raises:
        UnreadableDocument: it has no text.
    """
    sentences = tuple(_sentences(parsed.blocks))
    if not sentences:
        raise UnreadableDocument("no text")
    spoken = one_line(re.sub(r"[-_]+", " ", PurePosixPath(path).stem))
    return Document(
        path=path,
        sha256=sha256,
        title=one_line(parsed.title or "") or spoken,
        sentences=sentences,
        date=parsed.date or iso_date(PurePosixPath(path).stem),
        url=parsed.url,
        metadata=parsed.metadata,
    )


def embedded_text(title: str, sentence: Sentence) -> str:
    """Return what is embedded for a sentence: `title. heading. sentence`.

    In a report only those say whose revenue it is.
    """
    parts = (title, sentence.place, sentence.text)
    return " ".join(part if part.endswith((".", "?", "!")) else f"{part}." for part in parts if part)


def _sentences(blocks: Sequence[Block]) -> Iterator[Sentence]:
    count = 0
    for block in blocks:
        for text in [block.text[:MAX_ROW_CHARACTERS]] if block.whole else split_sentences(block.text):
            if count == MAX_SENTENCES:
                return
            leaning = count > 0 and not block.whole and leans(text)
            yield Sentence(text, block.heading, leaning, block.page)
            count += 1
