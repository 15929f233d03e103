"""`ock index build --on sagemaker`: shards of an index, made by the instances of a processing job.

    shards = build_shards(sources, Path("index"), JobOptions(instances=4), Console())

Documents and program go to the bucket, the job runs, its shards come back into DIR/.shards; who calls merges
them (`build_index` of `shards.folders`) and then calls `shards.remove()`. Names in the bucket and the job's
own are made from the contents: called again, it sends nothing twice, follows a job that runs and takes the
shards of one that has ended.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from client.errors import CallFailed
from client.prices import load_prices
from local.indexing.bucket import Bucket
from local.indexing.corpus import DIGITS, WORK_PREFIX, Corpus, find_corpus
from local.indexing.job_options import JobOptions
from local.indexing.place import Place, find_place
from local.indexing.processing import PROGRAM, Jobs, Work, job_request
from local.indexing.sources import Sources
from openchatkit.retrieval.documents import Skipped
from openchatkit.retrieval.index import LibraryIndex
from openchatkit.retrieval.indexing.job import shard_name
from openchatkit.retrieval.manifest import MANIFEST, sha256_of
from stacks.bundle import write_program

HERE = ".shards"
"""Folder of an index directory where shards wait to be merged."""
MAX_APP_CHARACTERS = 20
"""Of the deployment's name in a job's."""
SHOWN_EVERY_S = 60.0
"""A line about a job that goes on as before, where there is no terminal."""


@dataclass(frozen=True)
class Shards:
    """What a job has made, on this machine."""

    folders: tuple[str, ...]
    refused: tuple[Skipped, ...]
    """Files that cannot be read and were not sent."""
    _home: Path

    def remove(self) -> None:
        """Remove them: they are merged."""
        shutil.rmtree(self._home, ignore_errors=True)


def build_shards(sources: Sources, out: Path, options: JobOptions, console: Console) -> Shards:
    """Have the shards of an index built on SageMaker, and bring them here.

    Raises:
        CallFailed: the deployment, the sources, a call or the job; the message says what to do.
        FileNotFoundError, remote.SourceUnusable: a source that cannot be listed.
    """
    place = find_place(options)
    bucket = Bucket(place.session, place.bucket)
    corpus = find_corpus(sources.sources, bucket, place.session)
    instances = min(options.instances, len(corpus.names))  # an instance without a file would only cost
    size = f"{len(corpus.names):,} files, {corpus.size / 1e6:,.1f} MB"
    console.print(f"{size}: {_price(instances, options.instance_type)}", soft_wrap=True)
    program, encoder = _program(bucket), _encoder(bucket, sources, console)
    described = [corpus.address, corpus.digest, program, encoder or "", place.image, str(instances)]
    key = hashlib.sha256("\n".join(described).encode()).hexdigest()[:DIGITS]
    jobs = Jobs(place.session)

    def started() -> str:
        corpus.send(bucket, _counter(console, "Sending documents"))
        name = _name(place, key)
        shards = bucket.address(_shards(name))
        work = Work(corpus.address, corpus.size, program, encoder, shards)
        kind, volume = options.instance_type, options.volume_gb
        jobs.start(job_request(name, place, work, instances=instances, instance_type=kind, volume_gb=volume))
        console.print(f"Job {name} is started.", soft_wrap=True)
        return name

    name = _running_or_done(jobs, bucket, key, instances, console) or started()
    _follow(jobs, name, console)
    return _fetched(bucket, name, instances, out / HERE / name, corpus, console)


def _price(instances: int, kind: str) -> str:
    """Return what a job's instances are and cost."""
    prices = load_prices()
    hour = prices.instance_hour(kind)
    known = "price not known" if hour is None else f"about {instances * hour:.2f} {prices.currency} an hour"
    return f"{instances} x {kind}, {known}"


def _program(bucket: Bucket) -> str:
    """Bring the program into the bucket; return the address of its prefix."""
    with tempfile.TemporaryDirectory(prefix="openchatkit-program-") as folder:
        path = write_program(Path(folder) / PROGRAM)
        prefix = f"{WORK_PREFIX}program/{sha256_of(path)[:DIGITS]}/"
        bucket.send(prefix, {PROGRAM: path}, lambda *_: None)
    return bucket.address(prefix)


def _encoder(bucket: Bucket, sources: Sources, console: Console) -> str | None:
    """Bring an encoder that is not the package's own into the bucket; return the address of its prefix."""
    if sources.encoder is None:
        return None
    folder = Path(sources.encoder)
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    if "config.json" not in files:
        raise CallFailed(
            f"--encoder {sources.encoder} is no encoder's folder; with --on sagemaker it has to be one on "
            "this machine (`hf download` makes one)"
        )
    lines = sorted(f"{sha256_of(path)} {name}\n" for name, path in files.items())
    prefix = f"{WORK_PREFIX}encoders/{hashlib.sha256(''.join(lines).encode()).hexdigest()[:DIGITS]}/"
    bucket.send(prefix, files, _counter(console, "Sending the encoder"))
    return bucket.address(prefix)


def _name(place: Place, key: str) -> str:
    app = re.sub(r"[^a-z0-9]+", "-", place.app.lower())[:MAX_APP_CHARACTERS].strip("-")
    return f"{app}-index-{key}-{datetime.datetime.now(datetime.UTC):%y%m%d%H%M%S}"


def _shards(name: str) -> str:
    return f"{WORK_PREFIX}shards/{name}/"


def _running_or_done(jobs: Jobs, bucket: Bucket, key: str, instances: int, console: Console) -> str | None:
    """Return the job for the same work that runs, or whose shards are still there."""
    found = jobs.newest(f"-index-{key}-")
    if found is None:
        return None
    name, status = found
    if status == "InProgress":
        console.print(f"Job {name} runs already; following it.", soft_wrap=True)
        return name
    manifests = [f"{_shards(name)}{shard_name(number)}/{MANIFEST}" for number in range(instances)]
    if status == "Completed" and all(map(bucket.holds, manifests)):
        console.print(f"Job {name} has built these shards already.", soft_wrap=True)
        return name
    return None


def _follow(jobs: Jobs, name: str, console: Console) -> None:
    """Show a job's status and the time since it is followed, until it has ended."""
    began = time.monotonic()
    shown: tuple[str, float] = ("", began)
    with console.status(f"Job {name}") as bar:

        def report(status: str) -> None:
            nonlocal shown
            now = time.monotonic()
            line = f"Job {name}: {status}, {now - began:.0f} s"
            bar.update(line)
            if status != shown[0] or (not console.is_terminal and now - shown[1] >= SHOWN_EVERY_S):
                shown = (status, now)
                console.print(line, soft_wrap=True)

        try:
            jobs.follow(name, report)
        except KeyboardInterrupt:
            console.print(
                f"The job goes on, and costs. The same command follows it again; what stops it is\n"
                f"aws sagemaker stop-processing-job --processing-job-name {name}",
                soft_wrap=True,
            )
            raise


def _fetched(
    bucket: Bucket, name: str, instances: int, home: Path, corpus: Corpus, console: Console
) -> Shards:
    """Bring a job's shards into a folder, and check that together they hold every file."""
    report = _counter(console, "Fetching shards")
    folders, held = [], set()
    for number in range(instances):
        prefix, folder = f"{_shards(name)}{shard_name(number)}/", home / shard_name(number)
        if not bucket.holds(f"{prefix}{MANIFEST}"):
            raise CallFailed(f"job {name} has left no shard {shard_name(number)} at {bucket.address(prefix)}")
        bucket.fetch_index(prefix, folder)
        index = LibraryIndex.open(folder)
        held |= {origin.name for origin in index.table.origins()}
        index.table.close()
        folders.append(str(folder))
        report(number + 1, instances)
    missing = [file for file in corpus.names if file not in held]
    if missing:
        raise CallFailed(f"job {name}: {len(missing)} files are in no shard, {missing[0]} is one of them")
    return Shards(tuple(folders), corpus.refused, home.parent)


def _counter(console: Console, doing: str) -> Callable[[int, int], None]:
    """Return what tells how far something is."""

    def report(done: int, total: int) -> None:
        if done == total or console.is_terminal:
            console.print(f"{doing}: {done:,} of {total:,}", end="\n" if done == total else "\r")

    return report
