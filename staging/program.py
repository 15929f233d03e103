"""One run: look what is wanted and what is there, download the rest, convert, upload, manifest.

A run does only what is missing, wherever the last one ended: a valid manifest ends it at once; an object
that carries the right checksum is neither downloaded nor uploaded again, also on a machine that has never
seen the files; whole files in the working directory are kept. The working directory is emptied at the end
of a run that went well.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from staging.bucket import Bucket, StoredFile
from staging.errors import StagingError
from staging.hub import Hub, disk_error
from staging.manifest import (
    MANIFEST_NAME,
    Manifest,
    Source,
    StagedFile,
    sha256_of,
    tool_versions,
)
from staging.progress import Counter, Progress, size_text
from staging.selection import SAFETENSORS_INDEX, Wanted, wanted_of_dataset, wanted_of_model
from staging.shards import shard_index, tensor_sizes

logger = logging.getLogger(__name__)

DISK_RESERVE_BYTES = 512 * 1024 * 1024
"""What is left free on the disk beside the files."""


@dataclass(frozen=True)
class Report:
    """What a run did. Sizes in bytes."""

    uri: str
    files: int
    total_size: int
    uploaded: int
    already_there: int


@dataclass(frozen=True)
class Job:
    """What is to be staged, and how.

    Args:
        source: at a commit.
        patterns: which files of a dataset; empty for a model.
        work_dir: where downloads and converted files lie meanwhile.
        workers: downloads, and parts of an upload, at once.
        disk_reserve: bytes of the disk that stay free.
    """

    source: Source
    patterns: tuple[str, ...]
    work_dir: Path
    workers: int
    disk_reserve: int = DISK_RESERVE_BYTES


def stage(job: Job, hub: Hub, bucket: Bucket) -> Report:
    """Bring a repository's files into the bucket.

    Raises:
        StagingError: why not, in one line.
    """
    manifest = bucket.manifest()
    if manifest is not None and manifest.covers(job.source, job.patterns) and bucket.holds(manifest):
        logger.info("already staged: %s", bucket.uri)
        return _report(bucket, manifest, uploaded=0)
    try:
        with _working_directory(job) as folder:
            run = _Run(job, hub, bucket, folder)
            manifest = run.stage()
    except OSError as error:  # of the hub and S3 there is none left here: it is the disk
        raise disk_error(error) from error
    logger.info("staged: %s", bucket.uri)
    return _report(bucket, manifest, uploaded=run.uploaded)


class _Run:
    """One pass over what is missing."""

    def __init__(self, job: Job, hub: Hub, bucket: Bucket, folder: Path) -> None:
        self._job, self._hub, self._bucket = job, hub, bucket
        self._originals, self._made = folder / "hub", folder / "made"
        self.uploaded = 0

    def stage(self) -> Manifest:
        wanted = self._wanted()
        stored = self._stored(wanted)
        ready = {item.path for item in wanted if _is_there(item, stored.get(item.path))}
        missing = [item for item in wanted if item.path not in ready]
        self._look_at_disk(missing)
        originals = {item.remote.path: item.remote for item in missing if not self._is_made(item)}
        self._hub.download(
            self._job.source, list(originals.values()), self._originals, workers=self._job.workers
        )
        self._convert(missing)

        files = [_as_staged(path, stored[path]) for path in sorted(ready)]
        local = self._local_files(missing)
        index = self._index(wanted, ready)
        if index is not None:
            local.append(index)
        self._upload(local, stored)
        manifest = Manifest(
            source=self._job.source,
            patterns=self._job.patterns,
            files=tuple(files + [file for _, file in local]),
            tools=tool_versions(),
        )
        self._bucket.put_manifest(manifest)
        return manifest

    def _wanted(self) -> list[Wanted]:
        source = self._job.source
        files = self._hub.files(source)
        if source.kind == "model":
            wanted = wanted_of_model(files, model=source.id)
        else:
            wanted = wanted_of_dataset(files, self._job.patterns, dataset=source.id)
        if any(item.path == MANIFEST_NAME for item in wanted):
            raise StagingError(f"{source.id} has a {MANIFEST_NAME} of its own, which would be overwritten")
        size = size_text(sum(item.remote.size for item in wanted))
        logger.info("%s %s at %s: %d files, %s", source.kind, source.id, source.revision, len(wanted), size)
        return wanted

    def _stored(self, wanted: Sequence[Wanted]) -> dict[str, StoredFile]:
        paths = [item.path for item in wanted] + [SAFETENSORS_INDEX]
        with ThreadPoolExecutor(self._job.workers) as pool:
            found = zip(paths, pool.map(self._bucket.stored, paths), strict=True)
            return {path: stored for path, stored in found if stored is not None}

    def _look_at_disk(self, missing: Sequence[Wanted]) -> None:
        """Refuse what will not fit before hours of download rather than after."""
        needed = 0
        for item in missing:
            original = self._originals / item.remote.path
            needed += 0 if original.exists() else item.remote.size
            needed += item.remote.size if item.convert and not self._is_made(item) else 0
        free = shutil.disk_usage(self._job.work_dir).free
        if needed + self._job.disk_reserve > free:
            raise StagingError(
                f"the disk of {self._job.work_dir} has {size_text(free)} free and "
                f"{size_text(needed + self._job.disk_reserve)} are needed"
            )

    def _is_made(self, item: Wanted) -> bool:
        """Tell whether an earlier run converted it. A converted file appears whole and compared, or not."""
        return item.convert and (self._made / item.path).exists()

    def _convert(self, missing: Sequence[Wanted]) -> None:
        to_do = [item for item in missing if item.convert and not self._is_made(item)]
        if not to_do:
            return
        from staging.convert import convert_shard  # PyTorch: seconds, and most runs need none of it

        done = Counter()
        with Progress("converted", sum(item.remote.size for item in to_do), done):
            for item in to_do:
                convert_shard(self._originals / item.remote.path, self._made / item.path)
                done.add(item.remote.size)

    def _local_files(self, missing: Sequence[Wanted]) -> list[tuple[Path, StagedFile]]:
        def describe(item: Wanted) -> tuple[Path, StagedFile]:
            path = (self._made if item.convert else self._originals) / item.path
            made_from = _checksum(item) if item.convert else None
            return path, StagedFile(item.path, path.stat().st_size, sha256_of(path), made_from)

        with ThreadPoolExecutor(self._job.workers) as pool:
            return list(pool.map(describe, missing))

    def _index(self, wanted: Sequence[Wanted], ready: set[str]) -> tuple[Path, StagedFile] | None:
        """Write the index of converted shards. Those that are in the bucket already are read there."""
        shards = [item.path for item in wanted if item.convert]
        if len(shards) < 2:
            return None
        sizes = {}
        for path in shards:
            read = self._bucket.reader(path) if path in ready else _file_reader(self._made / path)
            sizes[path] = tensor_sizes(read)
        target = self._made / SAFETENSORS_INDEX
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(shard_index(sizes))
        return target, StagedFile(SAFETENSORS_INDEX, target.stat().st_size, sha256_of(target))

    def _upload(self, local: Sequence[tuple[Path, StagedFile]], stored: dict[str, StoredFile]) -> None:
        to_do = [
            (path, file)
            for path, file in local
            if file.path not in stored or not stored[file.path].is_same(file)
        ]
        if not to_do:
            return
        sent = Counter()
        with Progress("uploaded", sum(file.size for _, file in to_do), sent):
            for path, file in to_do:
                self._bucket.upload(path, file, count=sent.add)
                self.uploaded += 1


@contextlib.contextmanager
def _working_directory(job: Job) -> Iterator[Path]:
    """Give the folder of this source at this commit to one run alone; it goes when the run went well."""
    name = f"{job.source.kind}--{job.source.id.replace('/', '--')}--{job.source.revision}"
    folder = job.work_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    with (job.work_dir / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StagingError(f"another run stages {job.source.id} in {job.work_dir}") from None
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


def _is_there(item: Wanted, stored: StoredFile | None) -> bool:
    """Tell from checksums alone whether an object is what is wanted. Small files have none to compare."""
    if stored is None or item.remote.sha256 is None:
        return False
    if item.convert:
        return stored.made_from == item.remote.sha256 and stored.sha256 is not None
    return (stored.size, stored.sha256) == (item.remote.size, item.remote.sha256)


def _as_staged(path: str, stored: StoredFile) -> StagedFile:
    assert stored.sha256 is not None
    return StagedFile(path, stored.size, stored.sha256, stored.made_from)


def _checksum(item: Wanted) -> str:
    """Return the SHA-256 of a pickled shard, which the hub keeps as a large file."""
    if item.remote.sha256 is None:
        raise StagingError(f"{item.remote.path} has no SHA-256 on the hub")
    return item.remote.sha256


def _file_reader(path: Path) -> Callable[[int, int], bytes]:
    def read(offset: int, count: int) -> bytes:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(count)

    return read


def _report(bucket: Bucket, manifest: Manifest, *, uploaded: int) -> Report:
    total = sum(file.size for file in manifest.files)
    count = len(manifest.files)
    return Report(bucket.uri, count, total, uploaded, count - uploaded)
