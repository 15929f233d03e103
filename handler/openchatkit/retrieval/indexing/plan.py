"""What a build is to do: the files of its sources, and what earlier indexes hold of them already."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openchatkit.retrieval.document_table import Origin
from openchatkit.retrieval.documents import Skipped
from openchatkit.retrieval.index import LibraryIndex
from openchatkit.retrieval.indexing.listing import Item, list_items, unique_name
from openchatkit.retrieval.indexing.steps import Held
from openchatkit.retrieval.manifest import DEFAULT_NAME, IndexUnusable, is_index

RULES = 1
"""Counts up where the same file would give other sentences or another row order."""


@dataclass(frozen=True, slots=True)
class Options:
    """What decides what an index holds, beside its sources."""

    name: str = DEFAULT_NAME
    model: str | None = None
    """The encoder's directory or hub id, to be noted in the manifest."""
    excluded: Sequence[str] = ()
    """Items whose name is one of these, or stands below one, are left out."""
    readmitted: Sequence[str] = ()
    """Likewise, of what is left out: these stay. The longer name counts."""
    drop_duplicates: bool = True
    refused: Sequence[Skipped] = ()
    """Files that somebody else has found unreadable: listed as skipped with those found here."""
    keep_float: bool = False
    """Keep vectors as the encoder gave them, however many: what is to be merged must not lose any of them."""

    @property
    def parameters(self) -> dict[str, int | float | str | bool]:
        """What the manifest says about the rules of a build."""
        return {"rules": RULES, "drop_duplicates": self.drop_duplicates}


@dataclass
class Plan:
    """The items of some sources, in their order, and where each is already."""

    sources: Sequence[str]
    folder: Path
    options: Options
    identity: str
    """Of the encoder."""
    items: list[Item] = field(default_factory=list)
    problems: list[Skipped] = field(default_factory=list)
    earlier: list[LibraryIndex] = field(default_factory=list)
    """The index in the folder first, where there is one, then those among the sources."""
    _held: dict[tuple[str, str | None], tuple[int, Origin]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with contextlib.suppress(IndexUnusable):
            self._take(LibraryIndex.open(self.folder, encoder=self.identity))
        indexes = [source for source in self.sources if "://" not in source and is_index(Path(source))]
        items, self.problems = list_items([source for source in self.sources if source not in indexes])
        self.problems += self.options.refused
        taken = {item.name for item in items}
        for source in indexes:
            items += self._items_of(Path(source), taken)
        if indexes:  # however files were dealt out among indexes, together they stand in one order
            items.sort(key=lambda item: item.name)
            self.problems.sort(key=lambda problem: problem.path)
        self.items = [item for item in items if not self._excluded(item.name)]
        self.problems = [problem for problem in self.problems if not self._excluded(problem.path)]

    def _items_of(self, source: Path, taken: set[str]) -> list[Item]:
        """Return the items of an index among the sources."""
        index = LibraryIndex.open(source, encoder=self.identity)
        number = self._take(index)
        if number is None:
            raise IndexUnusable(f"{source}: made by other rules; build it anew from its files")
        items = []
        for origin in index.table.origins():
            if origin.fingerprint is None:
                self.problems.append(Skipped(origin.name, origin.problem or "not read"))
                continue
            name = unique_name(origin.name, source.resolve().name, taken)
            taken.add(name)
            items.append(Item(name, origin.name, 0, origin.fingerprint, number))
        return items

    def _take(self, index: LibraryIndex) -> int | None:
        """Make use of an index; return its number, None where its rules are others."""
        if index.manifest.parameters.get("rules") != RULES:
            return None
        number = len(self.earlier)
        self.earlier.append(index)
        for origin in index.table.origins():
            if origin.fingerprint is not None:
                self._held.setdefault((origin.name, origin.fingerprint), (number, origin))
        return number

    def _excluded(self, name: str) -> bool:
        return is_excluded(name, self.options.excluded, self.options.readmitted)

    def held(self, item: Item) -> Held | None:
        """Return where an item is already, None where it has to be read."""
        name = item.location if item.index is not None else item.name
        found = self._held.get((name, item.fingerprint))
        if found is None:
            return None
        number, origin = found
        index = self.earlier[number if item.index is None else item.index]
        table = index.folder / (index.manifest.file("documents") or "")
        return Held(table, name, origin.problem, origin.note)

    def unchanged(self) -> LibraryIndex | None:
        """Return the index in the folder where it is the one that is wanted."""
        index = self.earlier[0] if self.earlier and self.earlier[0].folder == self.folder else None
        if index is None or index.manifest.parameters != self.options.parameters:
            return None
        if index.manifest.name != self.options.name:
            return None
        origins = index.table.origins()
        listed = [(item.name, item.fingerprint) for item in self.items]
        refused = [(problem.path, problem.reason) for problem in self.problems]
        if listed != [(o.name, o.fingerprint) for o in origins if o.fingerprint is not None]:
            return None
        same = refused == [(o.name, o.problem) for o in origins if o.fingerprint is None]
        return index if same else None


def is_excluded(name: str, excluded: Sequence[str], readmitted: Sequence[str]) -> bool:
    """Tell whether an item is left out; see `Options`."""

    def longest(entries: Sequence[str]) -> int:
        return max((len(entry.rstrip("/")) for entry in entries if is_within(name, entry)), default=-1)

    return longest(excluded) > longest(readmitted)


def is_within(name: str, entry: str) -> bool:
    """Tell whether a name is an entry's, or stands below it."""
    folder = entry.rstrip("/")
    return name.rstrip("/") == folder or name.startswith(f"{folder}/")
