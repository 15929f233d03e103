"""Relations as they are written: blocks of statements and questions in the data files.

One in fourteen, drawn by a hash of its name, is held out: training never sees it, scoring does.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import cache

from recipes.demo_model.corpus.entities import KINDS
from recipes.demo_model.corpus.template import Template, fill_macros, read_lines, read_macros

FILES = ("company.txt", "general.txt", "frames.txt", "frames2.txt", "attributes.txt")
HELD_OUT_SHARE = 14
"""One relation in so many is never trained on."""

_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])(?!(?:one|[Ee]u|use|usual|uni(?!n|m)|utilit)[a-z-]*\b)")
"""An `a` that needs an n; the exceptions are spoken with a consonant."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of a passage."""

    text: str
    named: bool
    dated: bool


@dataclass(slots=True)
class Relation:
    """One block of a relations file."""

    key: str
    group: str
    kind: str
    types: dict[str, str]
    timed: bool
    statements: list[Template] = field(default_factory=list)
    questions: list[Template] = field(default_factory=list)
    nouns: list[Template] = field(default_factory=list)
    clauses: list[Template] = field(default_factory=list)
    unanswered: list[Template] = field(default_factory=list)

    @property
    def bucket(self) -> int:
        """A stable number that decides what is held out."""
        return hashlib.sha256(self.key.encode()).digest()[0]

    @property
    def held_out(self) -> bool:
        """Whether training never sees this relation."""
        return self.bucket % HELD_OUT_SHARE == 8


@dataclass(frozen=True, slots=True)
class Surface:
    """How a question names its entity."""

    subject: str
    owner: str


def articles(text: str) -> str:
    """Return `text` with `a` before a spoken vowel turned into `an`."""
    return _ARTICLE.sub(r"\1n ", text)


def _read(name: str) -> list[Relation]:
    macros = read_macros("macros.txt")
    found: list[Relation] = []
    for line in read_lines(name):
        mark, _, text = line.partition(" ")
        if mark == "=":
            key, group, kind, *rest = (part.strip() for part in text.split("|"))
            types = dict(part.split("=") for part in rest if "=" in part)
            found.append(Relation(key, group, kind, types, "t" in rest))
            continue
        if mark == "X":
            slot, _, kind = text.partition("=")
            found[-1].types[slot] = kind
            continue
        relation = found[-1]
        target = {
            "S": relation.statements,
            "Q": relation.questions,
            "N": relation.nouns,
            "W": relation.clauses,
            "U": relation.unanswered,
        }[mark]
        target.append(Template(fill_macros(text, macros)))
    return found


@cache
def relations() -> dict[str, list[Relation]]:
    """Return all relations by the kind of their entity."""
    by_kind: dict[str, list[Relation]] = {}
    for name in FILES:
        for relation in _read(name):
            for kind in KINDS if relation.kind == "any" else (relation.kind,):
                by_kind.setdefault(kind, []).append(relation)
    return by_kind


@cache
def trained(kind: str, held_out: bool = False) -> tuple[Relation, ...]:
    """Return the relations of a kind that training sees, or those that it never does."""
    return tuple(relation for relation in relations()[kind] if relation.held_out == held_out)


@cache
def alike(kind: str, group: str, key: str) -> tuple[Relation, ...]:
    """Return the other trained relations of a kind, those of one group where there are any."""
    pool = tuple(relation for relation in trained(kind) if relation.key != key)
    return tuple(relation for relation in pool if relation.group == group) or pool
