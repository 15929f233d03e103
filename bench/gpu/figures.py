"""Figures as they are measured: printed at once, kept in a file, summed up in tables, a plot and targets.

Each figure is one line of JSON, appended and flushed when it is known, so a run that is cut short loses
only what it was measuring. Runs of several parts in several calls share one file.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Figure = Mapping[str, Any]


class Recorder:
    """Prints figures and appends them to a file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._began = time.monotonic()
        self.figures: list[Figure] = []
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self.figures = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def say(self, text: str) -> None:
        """Print what is being done, with the seconds since the start."""
        print(f"[{time.monotonic() - self._began:6.1f} s] {text}", flush=True)

    def add(self, part: str, name: str, **values: object) -> None:
        """Keep a figure; times in seconds unless a name says otherwise."""
        rounded = {
            key: round(value, 5) if isinstance(value, float) else value for key, value in values.items()
        }
        figure = {"part": part, "name": name, **rounded}
        self.figures.append(figure)
        self.say(f"{part} {name}: " + " ".join(f"{key}={value}" for key, value in rounded.items()))
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(figure) + "\n")


def find(figures: Sequence[Figure], **wanted: object) -> Figure | None:
    """Return the newest figure with these values, None where there is none."""
    for figure in reversed(figures):
        if all(figure.get(key) == value for key, value in wanted.items()):
            return figure
    return None


@dataclass(frozen=True)
class Target:
    """What a ratio or a difference must reach."""

    name: str
    measured: float
    limit: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether it does."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


def targets(figures: Sequence[Figure]) -> list[Target]:
    """Return the targets that the figures say something about."""

    def value(key: str, **wanted: object) -> float | None:
        figure = find(figures, **wanted)
        return None if figure is None or figure.get(key) is None else float(figure[key])

    found: list[Target] = []

    def ratio(name: str, above: float | None, below: float | None, limit: float) -> None:
        if above is not None and below:
            found.append(Target(name, above / below, limit))

    for weights, limits in (("fp16", {1: 0.97, 64: 0.95}), ("fp8", {1: 0.95, 64: 0.95})):
        for clients, limit in limits.items():
            ours = value("tokens_per_s", part=weights, name="turn", clients=clients, prompt=512)
            bare = value("tokens_per_s", part=weights, name="alone", clients=clients, prompt=512)
            ratio(f"{weights}: whole turn / vLLM alone, {clients} clients", ours, bare, limit)
    ratio(
        "whole turn / the seed's way, 64 clients",
        value("tokens_per_s", part="fp16", name="turn", clients=64, prompt=512),
        value("tokens_per_s", part="seed", name="generate"),
        30,
    )
    ours = value("first_token_p50_s", part="fp16", name="turn", clients=1, prompt=512)
    bare = value("first_token_p50_s", part="fp16", name="alone", clients=1, prompt=512)
    if ours is not None and bare is not None:
        found.append(Target("first token over vLLM alone, ms", (ours - bare) * 1000, 25, at_least=False))
    judged = value("tokens_per_s", part="fp16", name="turn", clients=64, prompt=512)
    unjudged = value("tokens_per_s", part="fp16", name="not judged", clients=64, prompt=512)
    ratio("whole turn / without moderation, 64 clients", judged, unjudged, 0.95)
    unjudged = value("first_token_p50_s", part="fp16", name="not judged", clients=1, prompt=512)
    if ours is not None and unjudged is not None:
        name = "first token over a turn without moderation, 1 client, ms"
        found.append(Target(name, (ours - unjudged) * 1000, 20, at_least=False))
    ratio(
        "first token of turn 8, without / with prefix caching",
        value("first_token_p50_s", part="conversation", name="without caching", turn=8),
        value("first_token_p50_s", part="conversation", name="with caching", turn=8),
        2,
    )
    ratio(
        "decoding quoted answers, with / without n-gram speculation",
        value("decode_tokens_per_s", part="ngram", name="speculating"),
        value("decode_tokens_per_s", part="ngram", name="plain"),
        1.5,
    )
    return found


def tables(figures: Sequence[Figure]) -> str:
    """Return the figures as Markdown tables, one for each part and kind of figure."""
    groups: dict[tuple[str, tuple[str, ...]], list[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure["part"], tuple(figure)[1:]), []).append(figure)
    blocks = []
    for (part, columns), rows in groups.items():
        lines = [f"### {part}", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows]
        blocks.append("\n".join(lines))
    checked = targets(figures)
    if checked:
        lines = ["### targets", "| target | measured | limit | met |", "|---|---|---|---|"]
        for each in checked:
            sign = ">=" if each.at_least else "<="
            met = "yes" if each.met else "NO"
            lines.append(f"| {each.name} | {each.measured:.3f} | {sign} {each.limit:g} | {met} |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def plot(figures: Sequence[Figure], path: Path) -> bool:
    """Draw tokens/s over clients; False where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    pyplot = importlib.import_module("matplotlib.pyplot")
    pyplot.switch_backend("Agg")

    drawing, axes = pyplot.subplots(figsize=(7, 4))
    for part in ("fp16", "fp8"):
        for name in ("alone", "turn"):
            points = {
                figure["clients"]: figure["tokens_per_s"]
                for figure in figures
                if (figure["part"], figure["name"], figure.get("prompt")) == (part, name, 512)
            }
            if points:
                axes.plot(
                    sorted(points), [points[key] for key in sorted(points)], "o-", label=f"{part} {name}"
                )
    axes.set(xscale="log", xlabel="clients", ylabel="tokens/s")
    axes.legend()
    drawing.savefig(path, dpi=150)
    pyplot.close(drawing)
    return True
