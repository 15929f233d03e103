"""Stories: a few sentences that belong together, what each answers, and what none of them does.

The data files `stories*.txt` hold them. A sentence has wordings with optional parts `<tag:...>`; a
question with that tag is answered only where the part is told, and is otherwise the hardest kind of
unanswerable one: the sentence is there, the reason or the price is not. `Telling` is one story of one
entity with its values drawn; sentences keep their slots until they are written, so that words can
still be swapped (`disguise.py`) in all of them at once.
"""

from __future__ import annotations

import random
import re
import zlib
from dataclasses import dataclass, field
from functools import cache

from recipes.demo_model.corpus import values, words
from recipes.demo_model.corpus.entities import Entity, Period, possessive
from recipes.demo_model.corpus.relations import articles
from recipes.demo_model.corpus.template import (
    Template,
    capitalise,
    fill_macros,
    read_lines,
    read_macros,
    tidy,
)
from recipes.demo_model.corpus.values import fill

FILES = tuple(f"stories{number}.txt" for number in range(1, 9))
TOLD = 0.62
"""Share of optional parts that are told."""
SKIPPED = 0.2
"""Share of a story's sentences that are left out."""
HELD_OUT = frozenset({"loan", "closure", "hotel", "recall", "leaverules", "rail"})
"""Stories that training never sees."""

CURRENCIES = (
    "€",
    "$",
    "£",
    "EUR ",
    "CHF ",
    "NOK ",
    "SEK ",
    "$",
    "€",
    "USD ",
    "DKK ",
    "PLN ",
    "¥",
    "A$",
    "CZK ",
)
OWN_CURRENCY = 0.85
"""Share of a company's sums that are in its own currency."""

_OBJECT = re.compile(
    r"\b(by|to|of|from|up|against|at|for|into|with|in|on|between|about|over|sued|fined|rates|gave|beat|founded"
    r"|established|allowed|raised|costs?|costing|saved?|saves|serves?|owes?|owed|pays?|paid|told|lets?|helps?|helped"
    r"|asked|ordered|granted|awarded|gives?|brought|brings?|hits?|earns|obliged?s?|forced|forces|made|joined|chose"
    r"|reached|follows?|covers|covering|moved|burdens|spares|suspects) we\b"
)
_SLOT = re.compile(r"\{([^}]*)\}")
_PART = re.compile(r"\x01(\w+)\x02([^\x01\x03]*)\x03")
_STEM = re.compile(r"[a-z]{3,}")
_QUESTION_WORDS = frozenset(
    ["who", "what", "when", "where", "why", "how", "which", "does", "did", "the", "was", "were", "are", "has",
     "have", "many", "much", "for", "from", "with", "its", "long", "that", "will", "can"]
)  # fmt: skip


@dataclass(slots=True)
class Line:
    """One sentence of a story."""

    wordings: list[Template] = field(default_factory=list)
    questions: list[tuple[str, Template]] = field(default_factory=list)
    """A tag, empty where every wording answers, and the question."""


@dataclass(slots=True)
class Story:
    """A block of a stories file."""

    key: str
    kind: str
    timed: bool
    titles: list[Template] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    unanswered: list[Template] = field(default_factory=list)


def _template(text: str, macros: dict[str, str]) -> Template:
    text = fill_macros(text, macros)
    text = re.sub(r"<(\w+):", r"{<\1}[", text).replace(">", "]{>}")
    return Template(text)


def _read(name: str, macros: dict[str, str]) -> list[Story]:
    found: list[Story] = []
    fresh = False
    for line in read_lines(name):
        mark, _, text = line.partition(" ")
        if mark == "=":
            key, *rest = (part.strip() for part in text.split("|"))
            kind = next((part.removeprefix("kind=") for part in rest if part.startswith("kind=")), "company")
            found.append(Story(key, kind, "t" in rest))
            fresh = False
        elif mark == "T":
            found[-1].titles.append(_template(text, macros))
        elif mark == "!":
            found[-1].unanswered.append(_template(text, macros))
        elif mark == "S":
            if not fresh:
                found[-1].lines.append(Line())
            found[-1].lines[-1].wordings.append(_template(text, macros))
        elif mark.startswith("?"):
            found[-1].lines[-1].questions.append((mark[1:], _template(text, macros)))
        else:
            raise ValueError(f"{name}: no such mark: {line}")
        fresh = mark == "S"
    return found


@cache
def stories() -> dict[str, tuple[Story, ...]]:
    """Return all stories by the kind of their entity."""
    macros = read_macros("macros.txt")
    for line in read_lines("story_macros.txt"):
        head, _, text = line.partition(" ")
        macros[head] = fill_macros(text, macros)
    found: dict[str, list[Story]] = {}
    for name in FILES:
        for story in _read(name, macros):
            found.setdefault(story.kind, []).append(story)
    return {kind: tuple(group) for kind, group in found.items()}


@cache
def told(kind: str, held_out: bool = False) -> tuple[Story, ...]:
    """Return the stories of a kind that training sees, or those that it never does."""
    return tuple(story for story in stories()[kind] if (story.key in HELD_OUT) == held_out)


@cache
def synonyms() -> dict[str, tuple[tuple[str, ...], ...]]:
    """Return kinds of values with several names, each a group of names (`synonyms.txt`)."""
    heads = [line.partition(" ") for line in read_lines("synonyms.txt")]
    return {
        head[1:]: tuple(tuple(name.strip() for name in group.split("|")) for group in text.split(";"))
        for head, _, text in heads
    }


@cache
def _stems(source: str) -> frozenset[str]:
    bare = _SLOT.sub(" ", source).lower()
    return frozenset(word[:5] for word in _STEM.findall(bare) if word not in _QUESTION_WORDS)


@cache
def may_answer(question: str, line_questions: tuple[str, ...]) -> bool:
    """Whether one of the questions asks for much the same as the first, going by their words."""
    wanted = _stems(question)
    return any(
        len(wanted & _stems(other)) >= 0.6 * max(1, min(len(wanted), len(_stems(other))))
        for other in line_questions
    )


@cache
def _sources(kind: str, key: str) -> tuple[str, ...]:
    story = next(story for story in stories()[kind] if story.key == key)
    return tuple(question.source for line in story.lines for _, question in line.questions)


def clashes(question: Template, story: Story) -> bool:
    """Whether a story may hold an answer to a question of another."""
    return may_answer(question.source, _sources(story.kind, story.key))


@dataclass(slots=True)
class Sentence:
    """A sentence that is being told: its text with slots, and the parts it has."""

    number: int
    text: str
    parts: frozenset[str]


class Telling:
    """A story of one entity in one period."""

    def __init__(self, rng: random.Random, story: Story, entity: Entity, period: Period) -> None:
        self.story = story
        self.entity = entity
        self.period = period
        self.values: dict[str, str | tuple[str, ...]] = {}
        self.women: dict[str, bool] = {}
        count = len(story.lines)
        kept = [n for n in range(count) if rng.random() >= SKIPPED] or [rng.randrange(count)]
        self.sentences = [self.tell(rng, number) for number in kept]

    def tell(self, rng: random.Random, number: int, want: str = "", without: str = "") -> Sentence:
        """Return a wording of a line. `want` names a part it should have, `without` one it must not."""
        wordings = self.story.lines[number].wordings
        for _ in range(6):
            text = rng.choice(wordings).expand(rng, _keep)
            tags = {match.group(1) for match in _PART.finditer(text)}
            if want in tags or not want:
                break
        parts: set[str] = set()

        def decide(match: re.Match[str]) -> str:
            tag = match.group(1)
            if tag != without and tag not in parts and (tag == want or rng.random() < TOLD):
                parts.add(tag)
                return match.group(2)
            return ""

        text = tidy(_PART.sub(decide, text))
        return Sentence(number, text, frozenset(parts))

    def value(self, rng: random.Random, slot: str) -> str:
        """Return the story's value for a slot: `p1`, `p1:last`, `p1:he`, `job1`, `m2`."""
        name, _, form = slot.partition(":")
        upper = name.endswith("^")
        name = name.rstrip("^")
        if form in ("he", "He", "his", "His"):
            woman = self.women.setdefault(name, rng.random() < 0.5)
            text = {"he": ("he", "she"), "his": ("his", "her")}[form.lower()][woman]
            return capitalise(text) if form[0].isupper() else text
        if name not in self.values:
            self.values[name] = _draw(rng, name, self.entity)
        known = self.values[name]
        text = known if isinstance(known, str) else rng.choice(known)
        if form == "last":
            text = text.split(" ")[-1]
        return capitalise(text) if upper else text

    def time(self, rng: random.Random, slot: str) -> str:
        """Return the period, or the one before it, as a noun."""
        when = self.period if slot == "t" else Period(self.period.year - 1, self.period.part)
        return when.noun(rng)

    def write(self, rng: random.Random, sentence: str, subject: tuple[str, str], plural: bool) -> str:
        """Return a sentence with its slots filled.

        Args:
            subject: what stands for the entity, and its possessive.
            plural: the subject is `we`: verbs lose their ending.
        """

        def resolve(match: re.Match[str]) -> str:
            slot = match.group(1)
            if slot == "E":
                return subject[0]
            if slot == "E's":
                return subject[1]
            if slot.startswith("E "):
                return f"{subject[0]} {_we(slot[2:]) if plural else slot[2:]}"
            return self.time(rng, slot) if slot in ("t", "tp") else self.value(rng, slot)

        text = articles(tidy(_SLOT.sub(resolve, sentence)))
        return capitalise(_inflect_we(text) if plural else text)

    def ask(
        self, rng: random.Random, question: str, surface: tuple[str, str], when: str, known: str = ""
    ) -> str:
        """Return a question with its slots filled.

        Args:
            question: with its choices made.
            surface: what stands for the entity, and its possessive.
            when: the period as it is asked for, or empty.
            known: a text that has just been said: people in it become `he` or `she`.
        """

        def resolve(match: re.Match[str]) -> str:
            slot = match.group(1)
            if slot == "E":
                return surface[0]
            if slot == "E's":
                return surface[1]
            if slot == "t?":
                return rng.choice((f"in {when}", f"in {when}", f"for {when}")) if when else ""
            if slot in ("t", "tp"):
                return self.time(rng, slot)
            text = self.value(rng, slot)
            if known and slot.rstrip("0123456789") == "p" and text in known and rng.random() < 0.7:
                return self.value(rng, f"{slot}:he")
            return text

        return capitalise(articles(tidy(_SLOT.sub(resolve, question))))


def subject_of(rng: random.Random, entity: Entity, style: str, opening: bool) -> tuple[str, str]:
    """Return how a sentence names its entity, with the possessive.

    Args:
        style: `we`, or else a text that speaks of the entity by name or kind.
        opening: whether the sentence is the first of its document.
    """
    if style == "we" and rng.random() < 0.85:
        return ("we", "our")
    form = rng.random()
    if form < (0.6 if opening else 0.22):
        name = entity.full if rng.random() < 0.4 else entity.short
        return (name, possessive(rng, name))
    if form < 0.62 or opening:
        generic = rng.choice(entity.generic)
        return (generic, possessive(rng, generic))
    return entity.pronoun


def _keep(slot: str) -> str:
    if slot == ">":
        return "\x03"
    return f"\x01{slot[1:]}\x02" if slot.startswith("<") else "{" + slot + "}"


def _draw(rng: random.Random, name: str, entity: Entity) -> str | tuple[str, ...]:
    kind = name.rstrip("0123456789")
    if kind == "m" and rng.random() < OWN_CURRENCY:
        sign = CURRENCIES[zlib.crc32(entity.full.encode()) % len(CURRENCIES)]
        return f"{sign}{values.magnitude(rng)} {rng.choice(('million', 'million', 'billion'))}"
    if kind in synonyms():
        return rng.choice(synonyms()[kind])
    if kind == "y":
        return str(rng.randint(2016, 2034) if rng.random() < 0.75 else rng.randint(1900, 2030))
    if kind == "l" and rng.random() < 0.15:
        return words.coined(rng)
    return fill(rng, name)


def _we(verb: str) -> str:
    known = {"has": "have", "is": "are", "was": "were", "does": "do"}
    if verb in known:
        return known[verb]
    return verb[:-3] + "y" if verb.endswith("ies") else verb.removesuffix("s")


def _inflect_we(text: str) -> str:
    """Return a text in which `we` has its verb's and its own right form, for the most part."""
    text = re.sub(r"\b([Ww]e) (\w*[^s\W]s)\b", lambda m: f"{m.group(1)} {_we(m.group(2))}", text)
    return _OBJECT.sub(r"\1 us", text)
