"""Who and what the generated text speaks of: companies, towns, people, products and so on.

An entity has a full name, a short one, and words that may stand for it once it has been named.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from recipes.demo_model.corpus import values, words
from recipes.demo_model.corpus.template import capitalise

_QUARTERS = ("first", "second", "third", "fourth")


@dataclass(frozen=True, slots=True)
class Entity:
    """A named thing."""

    kind: str
    full: str
    short: str
    generic: tuple[str, ...]
    """What a text calls it the second time: `the company`."""
    pronoun: tuple[str, str]
    """Subject and possessive."""


@dataclass(frozen=True, slots=True)
class Period:
    """A year, or a part of one."""

    year: int
    part: str = ""
    """`Q1` to `Q4`, `H1`, `H2`, or empty for the whole year."""

    def noun(self, rng: random.Random) -> str:
        """Return the period as a noun: `2025`, `the third quarter of 2025`."""
        if self.part.startswith("Q"):
            ordinal = _QUARTERS[int(self.part[1]) - 1]
            return rng.choice(
                (
                    f"the {ordinal} quarter of {self.year}",
                    f"{self.part} {self.year}",
                    f"the {ordinal} quarter {self.year}",
                )
            )
        if self.part:
            return f"the {'first' if self.part == 'H1' else 'second'} half of {self.year}"
        if rng.random() < 0.72:
            return str(self.year)
        return rng.choice(
            (
                f"fiscal {self.year}",
                f"the financial year {self.year}",
                f"fiscal year {self.year}",
                f"FY {self.year}",
                f"the year {self.year}",
                f"the {self.year} financial year",
            )
        )

    def label(self, rng: random.Random) -> str:
        """Return the period as a title has it."""
        if self.part.startswith("Q"):
            return rng.choice(
                (f"{self.part} {self.year}", f"{_QUARTERS[int(self.part[1]) - 1]} quarter {self.year}")
            )
        return f"{self.part} {self.year}" if self.part else str(self.year)

    def other(self, rng: random.Random) -> Period:
        """Return another period that a text about this one does not speak of."""
        if self.part and rng.random() < 0.5:
            letter, last = self.part[0], 4 if self.part[0] == "Q" else 2
            parts = [f"{letter}{n}" for n in range(1, last + 1) if f"{letter}{n}" != self.part]
            return Period(self.year, rng.choice(parts))
        gap = rng.choice((-5, -4, -3, -2, -2, -1, 1, 2, 2, 3))
        return Period(self.year + gap, self.part)


def period(rng: random.Random) -> Period:
    """Return a period, mostly a recent year."""
    year = (
        rng.choice((2021, 2022, 2023, 2024, 2025, 2025, 2026))
        if rng.random() < 0.8
        else rng.randint(1995, 2030)
    )
    form = rng.random()
    part = f"Q{rng.randint(1, 4)}" if form < 0.2 else rng.choice(("H1", "H2")) if form < 0.25 else ""
    return Period(year, part)


_IT = ("it", "its")


def _company(rng: random.Random) -> Entity:
    full, short = words.company(rng)
    generic = rng.choice(
        (("the company",), ("the company", "the group"), ("the group",), ("the firm", "the company"))
    )
    last = short.split(" ")[-1]
    if (
        " " in short
        and last in words.name_lists()["corpword"]
        and not last.endswith("s")
        and rng.random() < 0.3
    ):
        generic = (f"the {last.lower()}", *generic)
    return Entity("company", full, short, generic, _IT)


def _place(rng: random.Random) -> Entity:
    name = words.place(rng)
    generic = rng.choice((("the town",), ("the city",), ("the village",), ("the town", "the place")))
    return Entity("place", name, name, generic, _IT)


def _headed(kind: str, heads: tuple[str, ...]) -> Callable[[random.Random], Entity]:
    def make(rng: random.Random) -> Entity:
        head = rng.choice(heads)
        form = rng.random()
        name = words.place(rng) if form < 0.35 else words.coined(rng)
        if form > 0.85:
            name = rng.choice(words.name_lists()["last"])
        style = rng.random()
        if style < 0.45:
            full = f"the {name} {head}"
        elif style < 0.75:
            full = f"the {head} of {name}"
        elif style < 0.9:
            full = f"{capitalise(head)} {name}"
        else:
            full = f"the {words.adjective(rng)} {head} of {name}"
        return Entity(kind, full, full, (f"the {head}",), _IT)

    return make


def _person(rng: random.Random) -> Entity:
    full = words.person(rng)
    last = full.split(" ")[-1]
    return Entity(
        "person",
        full,
        full if rng.random() < 0.7 else last,
        (last,),
        rng.choice((("she", "her"), ("he", "his"))),
    )


def _product(rng: random.Random) -> Entity:
    head = words.noun(rng)
    form = rng.random()
    mark = words.coined(rng) if form < 0.6 else f"{values.fill(rng, 'code')[:2]}-{rng.randint(2, 900)}"
    style = rng.random()
    if style < 0.35:
        full = f"the {head} {mark}"
    elif style < 0.55:
        full = f"the {mark} {head}"
    elif style < 0.75:
        full = f"the {mark} {rng.randint(2, 90)}"
    else:
        full = mark
    generic = (f"the {head}",) if head in full else ("the device",)
    return Entity("product", full, full, generic, _IT)


def _work(rng: random.Random) -> Entity:
    head = rng.choice(
        ("novel", "film", "opera", "play", "book", "painting", "symphony", "series", "album", "poem")
    )
    title = (
        values.fill(rng, "quote").strip("“”")
        if rng.random() < 0.5
        else f"The {words.adjective(rng)} {words.noun(rng)}".title()
    )
    form = rng.random()
    full = f"the {head} “{title}”" if form < 0.4 else f"“{title}”" if form < 0.7 else f'"{title}"'
    return Entity("work", full, full, (f"the {head}",), _IT)


_MAKERS: dict[str, Callable[[random.Random], Entity]] = {
    "company": _company,
    "place": _place,
    "person": _person,
    "product": _product,
    "work": _work,
    "building": _headed(
        "building",
        (
            "museum",
            "bridge",
            "library",
            "tower",
            "castle",
            "church",
            "stadium",
            "theatre",
            "lighthouse",
            "station",
            "hotel",
            "palace",
            "zoo",
            "market hall",
            "hospital",
            "gallery",
            "windmill",
            "tunnel",
            "dam",
            "town hall",
        ),
    ),
    "event": _headed(
        "event",
        (
            "festival",
            "conference",
            "marathon",
            "fair",
            "congress",
            "race",
            "cup",
            "regatta",
            "exhibition",
            "congress",
            "summit",
            "workshop",
            "tournament",
            "book fair",
        ),
    ),
    "body": _headed(
        "body",
        (
            "university",
            "association",
            "school",
            "academy",
            "institute",
            "club",
            "union",
            "agency",
            "foundation",
            "society",
            "orchestra",
            "choir",
            "ministry",
            "charity",
        ),
    ),
    "nature": _headed(
        "nature",
        (
            "lake",
            "mountain",
            "glacier",
            "island",
            "forest",
            "river",
            "valley",
            "cave",
            "bay",
            "waterfall",
            "volcano",
        ),
    ),
    "ship": _headed("ship", ("ship", "ferry", "tanker", "schooner", "steamer", "trawler", "frigate")),
}

KINDS = tuple(_MAKERS)


def _described(rng: random.Random, kind: str) -> Entity:
    """Return something that is described rather than named: `the old ferry of Hull`, `loan office`."""
    head = words.noun(rng)
    front = (
        f"{words.adjective(rng)} "
        if rng.random() < 0.4
        else f"{words.noun(rng)} "
        if rng.random() < 0.5
        else ""
    )
    form = rng.random()
    where = rng.choice(("of", "in", "at", "near", "on"))
    tail = "" if form < 0.3 else f" {where} {words.place(rng)}" if form < 0.6 else f" {words.coined(rng)}"
    if form > 0.85:
        tail = f" {where} {words.company(rng)[1]}"
    article = "the " if rng.random() < 0.8 or not tail else ""
    full = f"{article}{front}{head}{tail}"
    short = f"the {front}{head}" if tail and rng.random() < 0.4 else full
    return Entity(kind, full, short, (f"the {head}",), _IT)


def entity(rng: random.Random, kind: str) -> Entity:
    """Return a new entity of the kind."""
    if kind != "person" and rng.random() < (0.08 if kind in ("company", "place") else 0.4):
        return _described(rng, kind)
    return _MAKERS[kind](rng)


def lookalike(rng: random.Random, first: Entity) -> Entity:
    """Return another entity of the kind, sometimes with a word of the name in common."""
    other = entity(rng, first.kind)
    parts = first.full.split(" ")
    if len(parts) > 1 and rng.random() < 0.35 and first.kind in ("company", "person", "building", "body"):
        fresh = words.coined(rng)
        swapped = [fresh, *parts[1:]] if first.kind == "company" else [*parts[:-1], fresh]
        if rng.random() < 0.5 and first.kind == "company":
            swapped = [parts[0], fresh, *parts[2:]]
        full = " ".join(swapped)
        other = Entity(first.kind, full, full, first.generic, first.pronoun)
    if other.short in first.full or first.short in other.full:
        return entity(rng, first.kind)
    return other


def possessive(rng: random.Random, name: str) -> str:
    """Return `name` with its apostrophe."""
    mark = "’" if rng.random() < 0.15 else "'"
    return f"{name}{mark}" if name.endswith("s") and rng.random() < 0.4 else f"{name}{mark}s"
