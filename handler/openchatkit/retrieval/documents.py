"""Folders of files to documents of sentences. What cannot be read is named, never fatal.

    library = read_library([Path("local/library")])
    library.documents[0].sentences[0].text
    library.skipped          # files and why each was left out

A document's `path`, relative to the folder it was found in, is its id; it never depends on the other
documents. Files come in the order of their paths, so that the same folder gives the same library.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openchatkit.retrieval.blocks import Block, UnreadableDocument, iso_date, one_line
from openchatkit.retrieval.readers import READERS, decode
from openchatkit.retrieval.splitter import split_sentences

MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_SENTENCES = 20_000
"""Of one document: some 500 pages of a report. A longer one is cut off and named."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence as it stands in its document."""

    text: str
    place: str | None
    """The heading it stands under."""
    leans: bool
    """It needs the sentence before it to be understood: `It costs $49 per user.`"""


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read."""

    path: str
    sha256: str
    title: str
    sentences: tuple[Sentence, ...]
    date: str | None = None
    url: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was left out, or read in part, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Library:
    """All documents of some folders."""

    documents: tuple[Document, ...]
    skipped: tuple[Skipped, ...] = ()


# Words that point back. `The company` and the like name their subject by its kind only.
_LEANING = re.compile(
    r"[\"'“‘(]*(?:It|Its|He|His|She|Her|They|Their|Them|This|These|That|Those|Such|Both|Neither|Half|"
    r"The (?:company|group|firm|bank|airline|business|maker|latter|former|deal|purchase|sale|project|plant|"
    r"factory|programme|program|figure|amount|sum|move|decision|offer|bond|paper|closures?|cuts?))\b"
)


def leans(text: str) -> bool:
    """Return whether a sentence opens with a word that points to the one before it."""
    return bool(_LEANING.match(text))


def read_library(roots: Sequence[Path], *, max_file_bytes: int = MAX_FILE_BYTES) -> Library:
    """Read all .txt, .md and .html files in folders, or single files.

    Hidden files and folders are passed over, and so are links that lead out of their folder.

    Raises:
        FileNotFoundError: a root that does not exist; all else is skipped and named.
    """
    documents: list[Document] = []
    skipped: list[Skipped] = []
    taken: set[str] = set()
    for root in roots:
        if not root.exists():
            raise FileNotFoundError(f"no such file or folder: {root}")
        for path, problem in _files(root):
            name = _name(path, root, taken)
            if problem is None and path.suffix.lower() not in READERS:
                problem = "not a .txt, .md or .html file"
            try:
                if problem is not None:
                    raise UnreadableDocument(problem)
                document = read_document(path, name, max_file_bytes=max_file_bytes)
            except UnreadableDocument as error:
                skipped.append(Skipped(name, str(error)))
                continue
            taken.add(name)
            documents.append(document)
            if len(document.sentences) == MAX_SENTENCES:
                skipped.append(Skipped(name, f"only its first {MAX_SENTENCES} sentences are indexed"))
    return Library(tuple(documents), tuple(skipped))


def read_document(path: Path, name: str, *, max_file_bytes: int = MAX_FILE_BYTES) -> Document:
    """Read one file.

    Raises:
        UnreadableDocument: it is too large, binary, broken, empty or cannot be opened.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_file_bytes + 1)
    except OSError as error:
        raise UnreadableDocument("cannot be opened") from error
    if len(data) > max_file_bytes:
        raise UnreadableDocument(f"larger than {max_file_bytes} bytes")
    parsed = READERS[path.suffix.lower()](decode(data))
    sentences = tuple(_sentences(parsed.blocks))
    if not sentences:
        raise UnreadableDocument("no text")
    spoken = one_line(re.sub(r"[-_]+", " ", Path(name).stem))
    return Document(
        path=name,
        sha256=hashlib.sha256(data).hexdigest(),
        title=one_line(parsed.title or "") or spoken,
        sentences=sentences,
        date=parsed.date or iso_date(Path(name).stem),
        url=parsed.url,
        metadata=parsed.metadata,
    )


def _sentences(blocks: Sequence[Block]) -> Iterator[Sentence]:
    count = 0
    for block in blocks:
        for text in [block.text[:1000]] if block.whole else split_sentences(block.text):
            if count == MAX_SENTENCES:
                return
            yield Sentence(text, block.heading, leans=count > 0 and not block.whole and leans(text))
            count += 1


def _files(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield regular files in the order of their paths, and what speaks against others."""
    if not root.is_dir():
        yield root, None if root.is_file() else "not a regular file"
        return
    inside = root.resolve()
    for folder, folders, names in os.walk(root):
        # A link to a folder is never followed: its target is outside, or is visited by itself.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if name.startswith("."):
                continue
            yield path, _problem(path, inside)


def _problem(path: Path, inside: Path) -> str | None:
    try:
        if path.is_symlink() and not path.resolve(strict=True).is_relative_to(inside):
            return "a link that leads out of the folder"
        # Opening a pipe would wait for a writer.
        return None if stat.S_ISREG(path.stat().st_mode) else "not a regular file"
    except (OSError, RuntimeError):
        return "cannot be opened"


def _name(path: Path, root: Path, taken: set[str]) -> str:
    """Return a document's id: its path below the root; where two roots share one, the root's name too."""
    relative = path.relative_to(root).as_posix() if path != root else path.name
    relative = relative.encode("utf-8", "replace").decode()
    name, number = relative, 1
    while name in taken:
        prefix = root.resolve().name if number == 1 else f"{root.resolve().name}~{number}"
        name = f"{prefix}/{relative}"
        number += 1
    return name
