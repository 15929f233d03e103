"""`sources.json` of an index directory: where its documents come from, for `add`, `remove` and `update`.

It lies beside the manifest and is no part of the index: paths of the machine that built it stay out of
what is served.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from openchatkit.retrieval.indexing.plan import is_excluded, is_within
from openchatkit.retrieval.manifest import DEFAULT_NAME, write_atomically

SOURCES = "sources.json"


class SourcesUnknown(ValueError):
    """The index does not say where its documents come from."""


class Sources(BaseModel):
    """What an index is made of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: tuple[str, ...]
    """Paths, absolute; addresses as they were given."""
    excluded: tuple[str, ...] = ()
    """Files, or folders, that were removed: names in the index."""
    readmitted: tuple[str, ...] = ()
    """Files, or folders, of removed folders that were added again."""
    name: str = DEFAULT_NAME
    encoder: str | None = None
    """Directory or hub id; None is the one that comes with the package."""
    revision: str | None = None
    keep_duplicates: bool = False

    @classmethod
    def read(cls, folder: Path) -> Sources:
        """Read those of an index directory.

        Raises:
            SourcesUnknown: it has none, or they are damaged.
        """
        try:
            return cls.model_validate_json((folder / SOURCES).read_bytes())
        except (OSError, ValidationError) as error:
            raise SourcesUnknown(f"{folder} has no {SOURCES}; `ock index build` makes one") from error

    def write(self, folder: Path) -> None:
        """Write them into an index directory."""
        write_atomically(folder / SOURCES, self.model_dump_json(indent=2).encode() + b"\n")

    def with_sources(self, added: Sequence[str]) -> Sources:
        """Return these and some more: sources, or what was removed, by its path or name in the index."""
        changed = self
        for source in added:
            changed = changed._with(source)
        return changed

    def _with(self, added: str) -> Sources:
        path = absolute(added)
        named = not _is_remote(path) and not Path(path).exists()
        names = {added.rstrip("/")} if named else self._names(path)
        excluded = _without(self.excluded, names)
        readmitted = _without(self.readmitted, names)
        shut = tuple(name for name in sorted(names) if is_excluded(name, excluded, readmitted))
        brought_back = bool(shut) or excluded != self.excluded
        known = named or any(_below(source, path) for source in self.sources)
        sources = self.sources if brought_back and known else (*self.sources, path)
        return self.model_copy(
            update={
                "sources": tuple(dict.fromkeys(sources)),
                "excluded": excluded,
                "readmitted": (*readmitted, *shut),
            }
        )

    def _names(self, path: str) -> set[str]:
        """Return the names in the index that a path may have; of a whole folder those that are excluded."""
        names = set[str]()
        holding = [source for source in self.sources if _below(source, path) is not None]
        for source in holding or [path]:
            prefix = _prefix(source)
            below = _below(source, path)
            if below:
                behind = f"{prefix}/{below}"  # its name where an earlier source has one of that name
                shut = is_excluded(behind, self.excluded, self.readmitted)
                names |= {behind} if shut else {below, behind}
            elif Path(path).is_file():
                names.add(prefix)
            else:
                names |= {name for name in self.excluded if self._may_hold(source, name, prefix)}
        return names

    def _may_hold(self, source: str, name: str, prefix: str) -> bool:
        """Tell whether a name in the index may be of a source; none elsewhere is asked what it holds."""
        if not _is_remote(source):
            return any((Path(source) / each).exists() for each in (name, name.removeprefix(f"{prefix}/")))
        local = [other for other in self.sources if not _is_remote(other)]
        return not any(self._may_hold(other, name, Path(other).name) for other in local)

    def named(self, given: str, holds: Callable[[str], bool]) -> str:
        """Return the name in the index of a file or folder that may have been given by its path.

        Args:
            holds: whether the index holds a file, or a folder with files, of a name.
        """
        path = absolute(given)
        if holds(given) or given in self.excluded or path in self.sources:
            return given
        for source in self.sources:
            below = _below(source, path)
            prefix = _prefix(source)
            # Which of several folders of one name a file came from, no name in the index tells.
            if below and sum(_prefix(other) == prefix for other in self.sources) == 1:
                # A later source's file stands behind the source's name where an earlier one has its own.
                return next((name for name in (f"{prefix}/{below}", below) if holds(name)), given)
        return given

    def without(self, names: Sequence[str]) -> Sources:
        """Return these without some sources, files or folders."""
        wanted = {*names, *map(absolute, names)}
        left = tuple(source for source in self.sources if source not in wanted)
        gone = {*self.sources} - {*left}
        files = [name for name in names if name not in gone and absolute(name) not in gone]
        readmitted = _without(self.readmitted, set(files))
        shut = [name for name in files if not is_excluded(name, self.excluded, readmitted)]
        return self.model_copy(
            update={
                "sources": left,
                "excluded": tuple(dict.fromkeys([*self.excluded, *shut])),
                "readmitted": readmitted,
            }
        )


def _is_remote(source: str) -> bool:
    return "://" in source


def _prefix(source: str) -> str:
    """Return the last part of a source: what a name has before it that another source has taken."""
    return source.rstrip("/").rpartition("/")[2]


def _below(source: str, path: str) -> str | None:
    """Return a path's part below a source, empty where it is the source, None where it is elsewhere."""
    if not is_within(path, source):
        return None
    return path.rstrip("/")[len(source.rstrip("/")) + 1 :]


def _without(entries: Sequence[str], names: set[str]) -> tuple[str, ...]:
    """Return the entries that are none of some names and stand below none."""
    return tuple(entry for entry in entries if not any(is_within(entry, name) for name in names))


def absolute(source: str) -> str:
    """Return a path as an absolute one, an address as it is."""
    return source if _is_remote(source) else str(Path(source).resolve())
