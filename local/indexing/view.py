"""What `ock index` shows: a bar a step with rate and time left, a report, an index's figures."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from openchatkit.ports import Passage
from openchatkit.retrieval.indexing.builder import Report
from openchatkit.retrieval.manifest import Manifest

SHOWN_SKIPPED = 20
UNITS = {"reading": "files", "embedding": "sentences", "packing": "steps"}


class _Rate(ProgressColumn):
    """Things a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="progress.data.speed")


class BuildView:
    """Shows a build; a line a step where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            _Rate(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}

    def __enter__(self) -> BuildView:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def step(self, step: str, done: int, total: int) -> None:
        """Hear of a build's progress."""
        if step not in self._started:
            self._started[step] = time.monotonic()
            self._tasks[step] = self._bars.add_task(step.title(), total=total, unit=UNITS[step])
        self._bars.update(self._tasks[step], completed=done, total=total)
        if done >= total and not self._console.is_terminal:
            seconds = time.monotonic() - self._started[step]
            rate = f", {total / seconds:,.0f}/s" if seconds > 0 and step != "packing" else ""
            self._console.print(f"{step.title()}: {total} {UNITS[step]} in {seconds:.1f} s{rate}")


def show_report(console: Console, report: Report) -> None:
    """Print what a build did, and which files it left out."""
    for file in report.skipped[:SHOWN_SKIPPED]:
        console.print(f"Skipped {escape(file.path)}: {escape(file.reason)}", soft_wrap=True)
    if len(report.skipped) > SHOWN_SKIPPED:
        console.print(
            f"... and {len(report.skipped) - SHOWN_SKIPPED} more (`ock index info --skipped` lists all)"
        )
    counts = report.manifest.counts
    if not report.changed:
        console.print("Nothing has changed.")
    console.print(
        f"{counts.documents:,} documents, {counts.rows:,} sentences "
        f"({report.embedded:,} embedded now, {counts.duplicates:,} left out as duplicates), "
        f"{counts.skipped:,} files skipped",
        soft_wrap=True,
    )


def show_manifest(console: Console, manifest: Manifest) -> None:
    """Print an index's figures."""
    table = Table(show_header=False, box=None)
    vectors = manifest.vectors
    size = sum(file.bytes for file in manifest.files.values())
    recall = "exact" if vectors.recall_at_10 is None else f"recall@10 {vectors.recall_at_10:.3f} of exact"
    rows = {
        "name": manifest.name,
        "format": str(manifest.format),
        "encoder": f"{manifest.encoder.model or 'all-MiniLM-L6-v2'} ({manifest.encoder.identity[:12]})",
        "documents": f"{manifest.counts.documents:,}",
        "sentences": f"{manifest.counts.sentences:,}",
        "searched": f"{manifest.counts.rows:,} ({manifest.counts.duplicates:,} stand there twice)",
        "skipped": f"{manifest.counts.skipped:,} files",
        "vectors": f"{vectors.kind}, {vectors.code}, {manifest.encoder.dimension} dimensions; {recall}",
        "size": f"{size / 1e6:,.1f} MB",
    }
    for key, value in rows.items():
        table.add_row(key, escape(value))
    console.print(table)


def show_passages(console: Console, passages: list[Passage]) -> None:
    """Print passages, best first."""
    for number, passage in enumerate(passages, start=1):
        place = ", ".join(filter(None, (passage.title, passage.place, passage.date)))
        console.print(f"[bold]{number}[/bold]  {passage.score:.3f}  {escape(place)}", soft_wrap=True)
        console.print(f"   {escape(passage.text)}", soft_wrap=True)
        console.print(f"   [dim]{escape(passage.id)}[/dim]", soft_wrap=True)
    if not passages:
        console.print("Nothing found.")
