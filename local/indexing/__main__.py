"""Indexes of documents: `python -m local.indexing`, or `ock index`, which execs it.

The commands and their options; `openchatkit.retrieval.indexing` does the work.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from rich.console import Console

from local.indexing.job_options import JobOptions, job_options

if TYPE_CHECKING:
    from local.indexing.sagemaker import Shards
    from local.indexing.sources import Sources
    from openchatkit.retrieval.encoder import SentenceEncoder

EXIT_FAILED = 1
INTERRUPTED = 130
DEFAULT_HITS = 5
MAX_HITS = 100

_INDEX = click.argument("index", type=click.Path(path_type=Path, file_okay=False, exists=True))
_PROCESSES = click.option(
    "--processes",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes that read and embed. The index is the same for any number.",
)
_DEVICE = click.option(
    "--device",
    default=None,
    metavar="DEVICE",
    help="Where the encoder runs: cpu, cuda, cuda:1, ...; the default is a GPU where there is one.",
)


@click.group(name="index", context_settings={"help_option_names": ["-h", "--help"]})
def index() -> None:
    """Make documents searchable: build an index, change it, look at it.

    Sources are files and folders (.txt .md .html .htm .pdf .csv .tsv .jsonl .parquet), S3 prefixes
    (s3://bucket/prefix), datasets of Hugging Face (hf://datasets/owner/name) and other indexes. What
    cannot be read is named, skipped and counted. `ock serve --docs DIR` answers from an index.
    """


@index.command()
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR",
              help="Where the index goes. A build that was stopped goes on from what is there.")  # fmt: skip
@click.option(
    "--name", default="documents", show_default=True, help="Name of the source that answers from it."
)
@click.option("--encoder", default=None, metavar="DIR_OR_ID",
              help="A sentence encoder: a directory or a Hugging Face id. The default is the "
              "all-MiniLM-L6-v2 that comes with this package.")  # fmt: skip
@click.option("--revision", default=None, metavar="COMMIT", help="Commit of that id.")
@click.option(
    "--keep-duplicates", is_flag=True, help="Index passages that stand in an earlier document as well."
)
@_PROCESSES
@_DEVICE
@job_options
def build(
    job: JobOptions | None,
    sources: tuple[str, ...],
    out: Path,
    name: str,
    encoder: str | None,
    revision: str | None,
    keep_duplicates: bool,
    processes: int,
    device: str | None,
) -> None:
    """Build the index of some sources in DIR, or bring it up to date.

    With --on sagemaker the instances of a processing job read and embed a share of the files each, and
    their shards are merged here into the index that one machine would have built. SRC is then files and
    folders, or one S3 prefix. Ctrl-C leaves the job running; the same command follows it again.
    """
    from local.indexing.sources import Sources, absolute

    if str(out).startswith("s3:/"):
        raise click.UsageError("--out: a folder of this machine; copy the index to S3 afterwards")
    wanted = Sources(
        sources=tuple(map(absolute, sources)),
        name=_source_name(name),
        encoder=encoder,
        revision=revision,
        keep_duplicates=keep_duplicates,
    )
    _build(lambda: wanted, out, processes, device, job)


@index.command()
@_INDEX
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@_PROCESSES
@_DEVICE
def add(index: Path, sources: tuple[str, ...], processes: int, device: str | None) -> None:
    """Add sources to an index, or bring back what was removed.

    SRC is a source; or a file or folder that was removed, by its path or its name in the index.
    """
    from local.indexing.sources import Sources

    _build(lambda: Sources.read(index).with_sources(sources), index, processes, device)


@index.command()
@_INDEX
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_DEVICE
def remove(index: Path, names: tuple[str, ...], device: str | None) -> None:
    """Remove sources, files or folders from an index.

    NAME is a source as it was given, or a file or folder by its path or by its name in the index (`ock index
    search` shows it before the #).
    """
    from local.indexing.sources import Sources

    def wanted() -> Sources:
        before = Sources.read(index)
        left = before.without([before.named(name, lambda one: _holds(index, one)) for name in names])
        unknown = [name for name in left.excluded if name not in before.excluded and not _holds(index, name)]
        if unknown:
            fail(f"there is no source, file or folder {unknown[0]} in {index}")
        return left

    _build(wanted, index, 1, device)


@index.command()
@_INDEX
@_PROCESSES
@_DEVICE
def update(index: Path, processes: int, device: str | None) -> None:
    """Read the sources again and index what is new or has changed."""
    from local.indexing.sources import Sources

    _build(lambda: Sources.read(index), index, processes, device)


@index.command()
@_INDEX
@click.option("--check", is_flag=True, help="Compare all files with their checksums.")
@click.option("--skipped", is_flag=True, help="List the files that were skipped, and why.")
def info(index: Path, check: bool, skipped: bool) -> None:
    """Show what an index holds."""

    def run() -> None:
        from local.indexing.view import show_manifest
        from openchatkit.retrieval.index import LibraryIndex

        opened = LibraryIndex.open(index, thorough=check)
        console = _console()
        show_manifest(console, opened.manifest)
        if check:
            console.print("All files are as they were built.")
        for file in opened.table.skipped() if skipped else ():
            console.print(f"{file.path}: {file.reason}", soft_wrap=True, markup=False)

    _guarded(run)


@index.command()
@_INDEX
@click.argument("question")
@click.option(
    "-k", "k", type=click.IntRange(1, MAX_HITS), default=DEFAULT_HITS, show_default=True, help="Passages."
)
@click.option("--from", "date_from", type=click.DateTime(["%Y-%m-%d"]), help="First date, YYYY-MM-DD.")
@click.option("--to", "date_to", type=click.DateTime(["%Y-%m-%d"]), help="Last date, YYYY-MM-DD.")
@click.option("--company", multiple=True, help="Only of this company. Repeatable.")
@click.option("--kind", multiple=True, help="Only of this kind: a form, a category. Repeatable.")
@click.option("--source", multiple=True, help="Only of this publisher. Repeatable.")
@_DEVICE
def search(
    index: Path,
    question: str,
    k: int,
    date_from: datetime.datetime | None,
    date_to: datetime.datetime | None,
    company: tuple[str, ...],
    kind: tuple[str, ...],
    source: tuple[str, ...],
    device: str | None,
) -> None:
    """Search an index."""

    def run() -> None:
        from local.indexing.view import show_passages
        from openchatkit.ports import Filters, Query
        from openchatkit.retrieval.document_source import DocumentSource
        from openchatkit.retrieval.manifest import read_manifest

        first, last = (day.date().isoformat() if day else None for day in (date_from, date_to))
        query = Query(question, filters=Filters(first, last, company, kind, source))
        encoder = _encoder(read_manifest(index).encoder.model, None, device)
        found = DocumentSource.open(index, encoder=encoder).search(query, k)
        show_passages(_console(), asyncio.run(found))

    _guarded(run)


def _build(
    wanted: Callable[[], Sources],
    folder: Path,
    processes: int,
    device: str | None,
    job: JobOptions | None = None,
) -> None:
    def run() -> None:
        from local.indexing.view import BuildView, show_report
        from openchatkit.retrieval.encoder import bundled_minilm_directory
        from openchatkit.retrieval.indexing.builder import build_index
        from openchatkit.retrieval.indexing.plan import Options
        from openchatkit.retrieval.indexing.workers import EncoderSpec, Tools

        sources = wanted()
        model = sources.encoder or str(bundled_minilm_directory())
        spec = EncoderSpec(model, sources.revision, device or _default_device())
        console = _console()
        shards = _shards(sources, folder, job, console) if job is not None else None
        with BuildView(console) as view:
            report = build_index(
                shards.folders if shards else sources.sources,
                folder,
                tools=Tools(lambda: _encoder(sources.encoder, sources.revision, device)),
                options=Options(
                    name=sources.name,
                    model=sources.encoder,
                    excluded=sources.excluded,
                    readmitted=sources.readmitted,
                    drop_duplicates=not sources.keep_duplicates,
                    refused=shards.refused if shards else (),
                ),
                processes=processes,
                spec=spec,
                progress=view.step,
            )
        sources.write(folder)
        if shards is not None:
            shards.remove()
        show_report(console, report)

    _guarded(run)


def _shards(sources: Sources, folder: Path, job: JobOptions, console: Console) -> Shards:
    from local.indexing.sagemaker import build_shards

    return build_shards(sources, folder, job, console)


def _holds(folder: Path, name: str) -> bool:
    """Return whether an index holds a file, or a folder with files."""
    from openchatkit.retrieval.index import LibraryIndex

    below = f"{name.rstrip('/')}/"
    origins = LibraryIndex.open(folder).table.origins()
    return any(origin.name == name or origin.name.startswith(below) for origin in origins)


def _encoder(model: str | None, revision: str | None, device: str | None) -> SentenceEncoder:
    from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory

    directory = model or str(bundled_minilm_directory())
    return SentenceEncoder.load(directory, revision=revision, device=device or _default_device())


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _source_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        raise click.UsageError("--name: lower-case letters, digits, - and _ only, at most 64")
    return name


def _console() -> Console:
    return Console(highlight=False)


def _guarded(work: Callable[[], None]) -> None:
    """Do something; what goes wrong is one line on stderr."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from client.errors import ClientError
    from local.indexing.sources import SourcesUnknown
    from openchatkit.retrieval.indexing.builder import BuildBusy
    from openchatkit.retrieval.indexing.remote import SourceUnusable
    from openchatkit.retrieval.indexing.workers import WorkerLost
    from openchatkit.retrieval.manifest import IndexUnusable
    from stacks.bundle import BundleError

    try:
        work()
    except (
        BuildBusy,
        BundleError,
        ClientError,
        FileNotFoundError,
        IndexUnusable,
        SourceUnusable,
        SourcesUnknown,
        WorkerLost,
    ) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.strerror or type(error).__name__}: {error.filename or ''}".rstrip(": "))
    except KeyboardInterrupt:
        click.echo("Stopped. The same command goes on from here.", err=True)
        sys.exit(INTERRUPTED)


def fail(message: str) -> NoReturn:
    """End the program with one line on stderr."""
    click.echo(f"ock index: {message}", err=True)
    sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    index(prog_name="ock index")
