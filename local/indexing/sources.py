"""`sources.json` of an index directory: where its documents come from, for `add`, `remove` and `update`.

It lies beside the manifest and is no part of the index: paths of the machine that built it stay out of
what is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

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
    """Files, or folders, that were removed."""
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
        """Return these and some more."""
        return self.model_copy(update={"sources": tuple(dict.fromkeys([*self.sources, *added]))})

    def without(self, names: Sequence[str]) -> Sources:
        """Return these without some sources, files or folders."""
        wanted = {*names, *map(absolute, names)}
        left = tuple(source for source in self.sources if source not in wanted)
        gone = {*self.sources} - {*left}
        files = [name for name in names if name not in gone and absolute(name) not in gone]
        return self.model_copy(
            update={"sources": left, "excluded": tuple(dict.fromkeys([*self.excluded, *files]))}
        )


def absolute(source: str) -> str:
    """Return a path as an absolute one, an address as it is."""
    return source if "://" in source else str(Path(source).resolve())
