"""Rows of tables and lists of figures, as the handler's readers turn them into sentences.

`Sales (€ million): 2025 412; 2024 388`, or `Net debt: €32 million`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from recipes.demo_model.corpus import values, words
from recipes.demo_model.corpus.entities import Entity, Period, possessive
from recipes.demo_model.corpus.stories import synonyms
from recipes.demo_model.corpus.template import capitalise

_UNITS = (
    "€ million",
    "$ million",
    "£ million",
    "CHF million",
    "tonnes",
    "%",
    "number",
    "thousand",
    "NOK million",
    "",
)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows, a question, and the number of the row that answers it."""

    rows: tuple[str, ...]
    question: str
    answer: int | None


def _metric(rng: random.Random) -> tuple[str, ...]:
    if rng.random() < 0.3:
        head = f"{words.adjective(rng)} " if rng.random() < 0.4 else ""
        return (
            f"{head}{words.noun(rng)} {rng.choice(('costs', 'sales', 'income', 'volume', 'rate', 'orders'))}",
        )
    return rng.choice(synonyms()["metric"])


def _row(rng: random.Random, name: str, years: tuple[str, ...], single: bool) -> str:
    if single:
        value = rng.choice((values.money, values.percent, values.count))(rng)
        return f"{capitalise(name)}: {value}"
    unit = rng.choice(_UNITS)
    kind = f" ({unit})" if unit else ""
    figures = []
    for _ in years:
        if unit == "%" or rng.random() < 0.3:
            figures.append(f"{rng.uniform(0.1, 90):.1f}" + ("%" if unit == "" else ""))
        else:
            figures.append(f"{rng.randint(3, 99999):,}")
    cells = "; ".join(f"{year} {figure}" for year, figure in zip(years, figures, strict=True))
    return f"{capitalise(name)}{kind}: {cells}"


def table(rng: random.Random, subject: Entity, when: Period, answered: bool) -> Table:
    """Return rows on an entity in a period, and a question on one of them."""
    chosen: list[tuple[str, ...]] = []
    wanted = rng.randint(3, 8)
    while len(chosen) < wanted + 1:
        metric = _metric(rng)
        if all(metric[0] != other[0] for other in chosen):
            chosen.append(metric)
    *shown, spare = chosen
    single = rng.random() < 0.4
    label = when.part or ""
    years = tuple(f"{label} {when.year - back}".strip() for back in range(rng.choice((2, 2, 3))))
    names = [metric[0] if rng.random() < 0.6 else rng.choice(metric) for metric in shown]
    rows = tuple(_row(rng, name, years, single) for name in names)
    at = rng.randrange(len(rows))
    metric = shown[at] if answered else spare
    asked = names[at] if answered and rng.random() < 0.6 else rng.choice(metric)
    name = subject.short
    time = rng.choice(("", f" in {when.noun(rng)}", f" in {when.noun(rng)}"))
    if not single and rng.random() < 0.25:
        time = f" in {years[1]}"
    plural = asked.endswith("s")
    question = rng.choice(
        (
            f"What {'were' if plural else 'was'} {possessive(rng, name)} {asked}{time}?",
            f"What {'were' if plural else 'was'} the {asked} of {name}{time}?",
            f"How many {asked} did {name} have{time}?"
            if plural
            else f"How high was the {asked} of {name}{time}?",
            f"How much {asked} did {name} have{time}?",
            f"{capitalise(asked)} of {name}{time}?",
        )
    )
    return Table(rows, question, at if answered else None)
