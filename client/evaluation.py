"""Figures of a moderation on labelled texts: pure functions on labels, scores and times.

The labels are those of the chatbot that is asked; the last two of a list from harmless to worst count as
harmful, as the chatbot counts them. It calls nothing and prints nothing (`client.commands.moderation`).
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

LABELS = (
    "casual",
    "possibly needs caution",
    "probably needs caution",
    "needs caution",
    "needs intervention",
)
"""From harmless to worst, as the wire names them."""
HARMFUL = LABELS[3:]

MAX_ROWS = 100_000
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


class BadDataset(ValueError):
    """A data set cannot be read; the message names the line and the rule, never the text."""


@dataclass(frozen=True, slots=True)
class Row:
    """A labelled text. With `bot` it is a reply in the context of `text`."""

    text: str
    harmful: bool
    label: str | None = None
    """One of `LABELS`; None where the data only tells harmful from harmless."""
    bot: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A row and what the chatbot said about it."""

    row: Row
    label: str
    harm: float
    scores: dict[str, float]
    seconds: float
    """Of the call, as the client saw it."""


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """How well one label is found. A figure without a case to count is None."""

    label: str
    support: int
    precision: float | None
    recall: float | None
    auroc: float | None


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a threshold on harm does: shares of the harmful and of the harmless texts at or above it."""

    harm: float
    harmful: float | None
    harmless: float | None


def read_dataset(file: TextIO, name: str) -> Iterator[Row]:
    """Yield the rows of a .jsonl or .csv file with `text`, `label` or `harmful`, and `bot` if there is one.

    Raises:
        BadDataset: a line breaks a rule, there are more than `MAX_ROWS`, or none.
    """
    lines = _csv_rows(file) if Path(name).suffix == ".csv" else _json_rows(file)
    number = 0
    for number, (line, fields) in enumerate(lines, start=1):
        if number > MAX_ROWS:
            raise BadDataset(f"more than {MAX_ROWS:,} rows")
        yield _row(line, fields)
    if not number:
        raise BadDataset("no rows")


def _csv_rows(file: TextIO) -> Iterator[tuple[int, dict[str, object]]]:
    reader = csv.DictReader(file, strict=True)
    try:
        for fields in reader:
            if None in fields:
                raise BadDataset(f"line {reader.line_num}: more fields than the header names")
            yield reader.line_num, {name: value for name, value in fields.items() if value not in (None, "")}
    except csv.Error as error:
        raise BadDataset(f"line {reader.line_num + 1}: not CSV") from error


def _json_rows(file: TextIO) -> Iterator[tuple[int, dict[str, object]]]:
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise BadDataset(f"line {line}: not JSON") from error
        if not isinstance(fields, dict):
            raise BadDataset(f"line {line}: not an object")
        yield line, fields


def _row(line: int, fields: dict[str, object]) -> Row:
    text, label, bot = fields.get("text"), fields.get("label"), fields.get("bot")
    if not isinstance(text, str) or not text.strip():
        raise BadDataset(f'line {line}: "text" is missing or no text')
    if bot is not None and not isinstance(bot, str):
        raise BadDataset(f'line {line}: "bot" is no text')
    if label is not None:
        if label not in LABELS:
            raise BadDataset(f'line {line}: "label" must be one of {", ".join(LABELS)}')
        return Row(text, label in HARMFUL, str(label), bot)
    harmful = str(fields.get("harmful", "")).strip().lower()
    if harmful not in (*_TRUE, *_FALSE):
        raise BadDataset(f'line {line}: needs a "label", or "harmful" as true or false')
    return Row(text, harmful in _TRUE, None, bot)


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """Return the chance that a positive one scores above a negative one, ties counted half.

    None where there are no positive or no negative ones.
    """
    count = sum(positive)
    if count in (0, len(positive)):
        return None
    ordered = sorted(zip(scores, positive, strict=True))
    ranks, start = 0.0, 0
    while start < len(ordered):
        end = start
        while end < len(ordered) and ordered[end][0] == ordered[start][0]:
            end += 1
        middle = (start + 1 + end) / 2
        ranks += middle * sum(good for _, good in ordered[start:end])
        start = end
    return (ranks - count * (count + 1) / 2) / (count * (len(positive) - count))


def of_labels(judged: Sequence[Judged]) -> list[LabelFigures]:
    """Return the figures of each label, over the rows that name one."""
    named = [each for each in judged if each.row.label is not None]
    return [_of_label(named, label) for label in LABELS] if named else []


def _of_label(named: Sequence[Judged], label: str) -> LabelFigures:
    true = [each.row.label == label for each in named]
    said = [each.label == label for each in named]
    right = sum(a and b for a, b in zip(true, said, strict=True))
    return LabelFigures(
        label,
        sum(true),
        right / sum(said) if any(said) else None,
        right / sum(true) if any(true) else None,
        auroc([each.scores[label] for each in named], true),
    )


def confusion(judged: Sequence[Judged]) -> dict[str, dict[str, int]]:
    """Return how many of each true label (outer) got each label (inner)."""
    table = {true: dict.fromkeys(LABELS, 0) for true in LABELS}
    for each in judged:
        if each.row.label is not None:
            table[each.row.label][each.label] += 1
    return table


def thresholds(judged: Sequence[Judged], steps: int = 10) -> list[Threshold]:
    """Return what thresholds on harm from `1 / steps` to 1 would do."""

    def share(harm: float, harmful: bool) -> float | None:
        of_kind = [each.harm for each in judged if each.row.harmful == harmful]
        return sum(value >= harm for value in of_kind) / len(of_kind) if of_kind else None

    levels = [step / steps for step in range(1, steps + 1)]
    return [Threshold(level, share(level, True), share(level, False)) for level in levels]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
