"""`ock moderation`: how good the chatbot's moderation is, on texts whose labels are known.

The plot is an SVG of what the terminal shows, written by Rich: bars, not curves.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.bar import Bar
from rich.console import Console
from rich.progress import track
from rich.table import Table

from client import evaluation
from client.evaluation import BadDataset, Judged, Row
from client.options import Target, target_options
from client.terminal import as_json, wants_colour

WIDTH = 100
"""Columns of the report, the same in every terminal and in the plot."""


@click.group(short_help="Measure the moderation.")
def moderation() -> None:
    """Measure how good the chatbot's moderation is."""


@moderation.command(name="eval", short_help="Compare verdicts with known labels.")
@click.argument("dataset", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_one_json", is_flag=True, help="Print the figures as one line of JSON.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the report with its bars to an SVG file.",
)
@target_options
def evaluate(target: Target, dataset: Path, as_one_json: bool, plot: Path | None) -> None:
    """Judge the texts of DATASET and compare the verdicts with its labels.

    DATASET is .jsonl or .csv with `text` and `label` (one of the five labels) or `harmful` (true or
    false), and `bot` where the text is a question and the reply is to be judged. It prints precision,
    recall and AUROC of each label, the confusion table, what thresholds on harm would do, and the
    latency of a call. Each text is a call of its own; texts are not printed.
    """
    try:
        with dataset.open(encoding="utf-8-sig", newline="") as file:
            rows = list(evaluation.read_dataset(file, dataset.name))
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{dataset} is not text in UTF-8") from error
    except BadDataset as error:
        raise click.UsageError(f"{dataset}: {error}") from error
    bar = Console(stderr=True)
    shown = track(rows, "Judging", console=bar, disable=not bar.is_terminal, transient=True)
    judged = [_judge(target, row) for row in shown]
    figures = _figures(judged)
    if as_one_json:
        click.echo(as_json(figures))
    # Where standard output has the figures already, the report is drawn for the plot alone.
    output = io.StringIO() if as_one_json else None
    colour = wants_colour(sys.stdout)
    console = Console(file=output, width=WIDTH, record=True, no_color=not colour, highlight=False)
    _show(console, judged, figures)
    if plot is not None:
        console.save_svg(str(plot), title=f"Moderation of {dataset.name}")


def _judge(target: Target, row: Row) -> Judged:
    request = {"requestType": "MODERATE", "inputs": row.text}
    if row.bot is not None:
        request["bot"] = row.bot
    began = time.monotonic()
    verdict = target.endpoint.invoke(request)["verdicts"][0]
    seconds = time.monotonic() - began
    return Judged(row, verdict["label"], verdict["harm"], verdict["scores"], seconds)


def _figures(judged: Sequence[Judged]) -> dict[str, Any]:
    seconds = [each.seconds for each in judged]
    harmful = [each.row.harmful for each in judged]
    return {
        "texts": len(judged),
        "harmful": sum(harmful),
        "auroc": _rounded(evaluation.auroc([each.harm for each in judged], harmful)),
        "labels": {
            each.label: {
                "support": each.support,
                "precision": _rounded(each.precision),
                "recall": _rounded(each.recall),
                "auroc": _rounded(each.auroc),
            }
            for each in evaluation.of_labels(judged)
        },
        "confusion": evaluation.confusion(judged) if evaluation.of_labels(judged) else {},
        "thresholds": [
            {"harm": each.harm, "harmful": _rounded(each.harmful), "harmless": _rounded(each.harmless)}
            for each in evaluation.thresholds(judged)
        ],
        "latency_s": {
            name: round(evaluation.percentile(seconds, share), 4)
            for name, share in (("p50", 0.5), ("p95", 0.95))
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _show(console: Console, judged: Sequence[Judged], figures: dict[str, Any]) -> None:
    latency = figures["latency_s"]
    console.print(
        f"{figures['texts']} texts, {figures['harmful']} of them harmful; "
        f"AUROC of harm {_shown(figures['auroc'])}; "
        f"a call took {1000 * latency['p50']:.0f} ms (p50), {1000 * latency['p95']:.0f} ms (p95)"
    )
    if figures["labels"]:
        console.print(_label_table(figures["labels"]))
        console.print(_confusion_table(figures["confusion"]))
    console.print(_threshold_table(figures["thresholds"]))


def _label_table(labels: dict[str, dict[str, Any]]) -> Table:
    table = Table("label", title="Labels")
    for name in ("texts", "precision", "recall", "AUROC"):
        table.add_column(name, justify="right")
    for label, each in labels.items():
        table.add_row(
            label,
            str(each["support"]),
            _shown(each["precision"]),
            _shown(each["recall"]),
            _shown(each["auroc"]),
        )
    return table


def _confusion_table(confusion: dict[str, dict[str, int]]) -> Table:
    table = Table("is \\ said", title="Confusion")
    for label in confusion:
        table.add_column(label, justify="right", overflow="fold")
    for label, said in confusion.items():
        table.add_row(label, *map(str, said.values()))
    return table


def _threshold_table(levels: Sequence[dict[str, Any]]) -> Table:
    table = Table("harm from", title="At or above a threshold on harm")
    for kind in ("harmful", "harmless"):
        table.add_column(kind, justify="right")
        table.add_column("", width=24)
    for each in levels:
        cells: list[Any] = [f"{each['harm']:.1f}"]
        for kind, colour in (("harmful", "green"), ("harmless", "red")):
            share = each[kind]
            cells += [_shown(share), Bar(1, 0, share or 0, color=colour)]
        table.add_row(*cells)
    return table
