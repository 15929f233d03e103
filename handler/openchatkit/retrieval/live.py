"""An index that is followed while it is used: a new state is picked up without a restart (port `Source`).

    source = LiveIndexSource.open(parse_place("s3://bucket/indexes/filings/", cache), encoder=encoder)

A thread looks at the index's manifest every `refresh_s` seconds. When it has changed, the files that are not
here yet are brought (an index in S3), the new state is opened, and one assignment puts it in the place of the
old one. Queries that are under way finish on the state they began with; its files go when the last one is
done. A new state that cannot be read is left alone, and looked at again the next time.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import filelock

from openchatkit.origins import OriginUnusable, S3Origin, matches
from openchatkit.ports import Embedding, Passage, Query
from openchatkit.retrieval.document_source import DocumentSource
from openchatkit.retrieval.index import IndexedEncoder
from openchatkit.retrieval.manifest import MANIFEST, IndexUnusable, write_atomically

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

REFRESH_S = 20.0
CACHE = Path(tempfile.gettempdir()) / "openchatkit-indexes"

_log = logging.getLogger(__name__)


class IndexPlace(Protocol):
    """Where an index lies. Everything here blocks."""

    def version(self) -> str:
        """Return something that changes with the index; cheap. Raises `IndexUnusable`."""
        ...

    def folder(self) -> Path:
        """Return a local folder with the newest state, brought here if need be. Raises `IndexUnusable`."""
        ...


def parse_place(address: str, cache: Path = CACHE) -> IndexPlace:
    """Return the place of a folder, or of `s3://bucket/prefix/`, whose files are kept in `cache`."""
    parts = urlsplit(address)
    if parts.scheme != "s3":
        return LocalPlace(Path(address))
    import boto3

    return S3Place(boto3.client("s3"), parts.netloc, parts.path.strip("/"), cache)


class LocalPlace:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def version(self) -> str:
        """Return the digest of the manifest."""
        try:
            return hashlib.sha256((self._folder / MANIFEST).read_bytes()).hexdigest()
        except OSError as error:
            raise IndexUnusable("no manifest there") from error

    def folder(self) -> Path:
        """Return the folder."""
        return self._folder


class S3Place:
    """A prefix in S3 that holds an index directory, its manifest put there last."""

    def __init__(self, client: S3Client, bucket: str, prefix: str, cache: Path) -> None:
        """Follow a prefix.

        Args:
            client: reads it.
            bucket: its bucket.
            prefix: without a slash at the end.
            cache: a local folder, which the processes of an instance may share.
        """
        self._client, self._bucket, self._prefix = client, bucket, prefix
        name = hashlib.sha256(f"{bucket}/{prefix}".encode()).hexdigest()[:24]
        self._folder = cache / name

    def version(self) -> str:
        """Return the manifest's ETag."""
        try:
            return S3Origin(self._client, self._bucket, self._prefix).version()
        except OriginUnusable as error:
            raise IndexUnusable(str(error)) from error

    def folder(self) -> Path:
        """Bring the files that are missing and return the folder; its manifest is written last."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self._folder / ".lock"):
            try:
                self._bring(S3Origin(self._client, self._bucket, self._prefix))
            except OriginUnusable as error:
                raise IndexUnusable(str(error)) from error
        return self._folder

    def _bring(self, origin: S3Origin) -> None:
        names = set()
        for file in origin.files():
            names.add(file.name.partition("/")[0])
            path = self._folder / file.name
            # A name holds its content's digest: a file that is here is the right one.
            if path.exists() and path.stat().st_size == file.size:
                continue
            _log.info("event=index_download file=%s bytes=%d", file.name, file.size)
            if not matches(origin.fetch(file, self._folder, lambda *_: None), file):
                path.unlink()
                raise IndexUnusable(f"{file.name} does not match its checksum")
        write_atomically(self._folder / MANIFEST, origin.manifest())
        for path in self._folder.iterdir():
            if path.name not in names and path.name != MANIFEST and not path.name.startswith("."):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


class LiveIndexSource:
    """The newest state of an index. `open` begins to follow it, `close` ends that."""

    def __init__(
        self,
        place: IndexPlace,
        encoder: IndexedEncoder,
        version: str,
        source: DocumentSource,
        refresh_s: float,
    ) -> None:
        self.name = source.name
        self._place = place
        self._encoder = encoder
        self._version = version
        self._source = source
        self._refresh_s = refresh_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"index-{self.name}", daemon=True)

    @classmethod
    def open(
        cls,
        place: IndexPlace,
        *,
        encoder: IndexedEncoder,
        name: str | None = None,
        refresh_s: float = REFRESH_S,
    ) -> LiveIndexSource:
        """Open an index and follow it from now on. Blocking, as long as its files have to be brought.

        Args:
            place: where it lies.
            encoder: the one that made it.
            name: of the source; None takes the index's own.
            refresh_s: seconds between two looks.

        Raises:
            IndexUnusable: there is none, it is damaged, or another encoder's.
        """
        version = place.version()
        source = DocumentSource.open(place.folder(), encoder=encoder)
        source.name = name or source.name
        live = cls(place, encoder, version, source, refresh_s)
        live._thread.start()
        return live

    def close(self) -> None:
        """Follow no more."""
        self._closing.set()

    @property
    def version(self) -> str:
        """What the index's place called the state that is used."""
        return self._version

    async def search(self, query: Query, k: int) -> list[Passage]:
        """Return at most `k` passages of the newest state, best first."""
        return await self._source.search(query, k)

    async def passage(self, passage_id: str) -> Passage | None:
        """Return a passage by its id, None where the newest state says something else there."""
        return await self._source.passage(passage_id)

    def similarity(self, embedding: Embedding) -> float:
        """Return the cosine of the nearest sentence, -1 where there is none."""
        return self._source.similarity(embedding)

    def _follow(self) -> None:
        while not self._closing.wait(self._refresh_s):
            try:
                self._refresh()
            except Exception as error:  # noqa: BLE001 - the old state goes on being used, whatever the new one is
                _log.warning("event=index_not_refreshed source=%s cause=%s", self.name, type(error).__name__)

    def _refresh(self) -> None:
        version = self._place.version()
        if version == self._version:
            return
        source = DocumentSource.open(self._place.folder(), encoder=self._encoder)
        source.name = self.name
        self._source, self._version = source, version
        _log.info("event=index_refreshed source=%s sentences=%d", self.name, source.sentences)
