"""Facts of the written relations: how a sentence states one and how a question asks for it.

A fact is a relation of one entity with its values drawn. Facts of one group look alike and serve as
each other's distractors.
"""

from __future__ import annotations

import random

from recipes.demo_model.corpus import words
from recipes.demo_model.corpus.disguise import disguise
from recipes.demo_model.corpus.entities import Entity, Period, possessive
from recipes.demo_model.corpus.relations import Relation, Statement, Surface, alike, articles, trained
from recipes.demo_model.corpus.template import Template, capitalise
from recipes.demo_model.corpus.values import fill

MASKED = 0.4
"""Share of facts whose words are swapped for others."""


class Fact:
    """A relation of one entity with its values."""

    def __init__(self, rng: random.Random, relation: Relation, entity: Entity, period: Period | None) -> None:
        self.relation = relation
        self.entity = entity
        self.period = period if relation.timed else None
        self.shared: dict[str, str] = {name: fill(rng, kind) for name, kind in relation.types.items()}
        self.group = relation.group
        self.told: Template | None = None
        self.asked: Template | None = None
        self.mask = ""

    def put_on_mask(self, rng: random.Random) -> None:
        """Fix one statement and one question and swap the words they share for others.

        What is left of the relation is its grammar: the words have to be matched, not known.
        """
        statement, question = rng.choice(self.relation.statements), rng.choice(self.relation.questions)
        pair = disguise(rng, statement, question)
        if pair:
            self.told, self.asked = pair
            self.mask = self.told.source

    @property
    def key(self) -> tuple[str, ...]:
        """What is asked for: two facts with one key answer the same question."""
        period = f"{self.period.year}{self.period.part}" if self.period else ""
        return (self.entity.full, self.relation.key, self.shared.get("x", ""), period, self.mask)

    @property
    def topic(self) -> str:
        """A word or two for a title."""
        return self.relation.key.replace("_", " ") if "x" not in self.shared else self.shared["x"]

    def vary(self, rng: random.Random) -> Fact | None:
        """Return a fact of the same relation and entity with another argument or period, if it has one."""
        if self.mask and rng.random() < 0.6:
            other = Fact(rng, self.relation, self.entity, self.period)
            other.put_on_mask(rng)
            return other if other.mask else None
        if self.mask:
            return None
        if "x" in self.relation.types and (self.period is None or rng.random() < 0.5):
            return Fact(rng, self.relation, self.entity, self.period)
        if self.period is None:
            return None
        return Fact(rng, self.relation, self.entity, self.period.other(rng))

    def _shared(self, rng: random.Random, slot: str) -> str | None:
        """A value that statement and question have in common, or None for any other slot."""
        bare = slot.rstrip("^")
        upper = slot.endswith("^")
        if bare.endswith("=") and bare[:1].isupper():
            bare, upper = bare.lower(), True
        if bare.endswith("'s"):
            owner = self.shared.get(bare[:-2])
            return possessive(rng, owner) if owner else None
        if bare.endswith("=") and bare not in self.shared:
            self.shared[bare] = fill(rng, bare)
        text = self.shared.get(bare)
        return capitalise(text) if text and upper else text

    def state(self, rng: random.Random, named: bool, dated: bool) -> Statement:
        """Return a sentence that states the fact; `named` and `dated` ask for, the result tells."""
        template = rng.choice(self.relation.statements)
        if named and "E" not in template.slots and "E's" not in template.slots:
            template = rng.choice(self.relation.statements)
        template = self.told or template
        first = template.parts[0]
        seen = {"E": False, "t": False}
        name = self.entity.full if rng.random() < 0.6 else self.entity.short
        generic = rng.choice(self.entity.generic)

        def resolve(slot: str) -> str:
            shared = self._shared(rng, slot)
            if shared is not None:
                return shared
            if slot in ("E", "E's"):
                pronoun = not seen["E"] and getattr(first, "name", "") == slot and rng.random() < 0.5
                called = name if named else generic
                seen["E"] = True
                if pronoun and not named:
                    return self.entity.pronoun[slot == "E's"]
                return possessive(rng, called) if slot == "E's" else called
            if slot in ("t", "T", "t+", "tprev"):
                return self._time(rng, slot, dated, seen)
            if slot == "v2":
                return fill(rng, self.relation.types["v"])
            return fill(rng, slot)

        text = capitalise(articles(template.expand(rng, resolve)))
        return Statement(text, named and seen["E"], seen["t"])

    def _time(self, rng: random.Random, slot: str, dated: bool, seen: dict[str, bool]) -> str:
        if self.period is None:
            return ""
        if slot == "tprev":
            return str(self.period.year - 1)
        if not dated and slot != "t+":
            span = "quarter" if self.period.part.startswith("Q") else "half" if self.period.part else "year"
            return (
                f"the {span}" if slot == "T" else rng.choice(("", "", f"in the {span}", f"over the {span}"))
            )
        seen["t"] = True
        noun = self.period.noun(rng)
        return noun if slot == "T" else f"In {noun}," if slot == "t+" else f"in {noun}"

    def ask(self, rng: random.Random, surface: Surface, dated: bool) -> str:
        """Return a question, a request or a bare noun phrase that asks for the fact."""
        if self.asked:
            return capitalise(self._render(rng, self.asked, surface, dated))
        form = rng.random()
        if self.relation.nouns and form < 0.14:
            return self._wrap(rng, self._render(rng, rng.choice(self.relation.nouns), surface, dated))
        if self.relation.clauses and form < 0.22:
            clause = self._render(rng, rng.choice(self.relation.clauses), surface, dated)
            return rng.choice(
                (
                    f"Do you know {clause}?",
                    f"Can you tell me {clause}?",
                    f"Tell me {clause}.",
                    f"I wonder {clause}.",
                    f"Could you say {clause}?",
                )
            )
        return capitalise(self._render(rng, rng.choice(self.relation.questions), surface, dated))

    def ask_noun(self, rng: random.Random, surface: Surface, dated: bool) -> str:
        """Return the noun phrase for what is asked, or a question where there is none."""
        if not self.relation.nouns or self.mask:
            return ""
        return self._render(rng, rng.choice(self.relation.nouns), surface, dated)

    def ask_unanswered(self, rng: random.Random, surface: Surface) -> str:
        """Return a question near the fact that no statement of it answers; empty where none is written."""
        if not self.relation.unanswered or self.mask:
            return ""
        return capitalise(self._render(rng, rng.choice(self.relation.unanswered), surface, dated=False))

    def _wrap(self, rng: random.Random, noun: str) -> str:
        be = rng.choice(("What is", "What was", "What's"))
        return capitalise(
            rng.choice(
                (
                    f"{be} {noun}?",
                    f"{be} {noun}?",
                    f"tell me {noun}.",
                    f"give me {noun}",
                    f"{noun}?",
                    noun,
                    f"I need {noun}.",
                    f"please look up {noun}",
                    f"do you know {noun}?",
                    f"find {noun}",
                )
            )
        )

    def _render(self, rng: random.Random, template: Template, surface: Surface, dated: bool) -> str:
        def resolve(slot: str) -> str:
            shared = self._shared(rng, slot)
            if shared is not None:
                return shared
            if slot == "E":
                return surface.subject
            if slot == "E's":
                return surface.owner
            if slot in ("t?", "T?"):
                if self.period is None or not dated:
                    return "the year" if slot == "T?" else ""
                noun = self.period.noun(rng)
                return noun if slot == "T?" else rng.choice((f"in {noun}", f"in {noun}", f"for {noun}"))
            return fill(rng, slot)

        return articles(template.expand(rng, resolve))


def draw_fact(rng: random.Random, entity: Entity, period: Period, held_out: bool = False) -> Fact:
    """Return a random fact of the entity."""
    fact = Fact(rng, rng.choice(trained(entity.kind, held_out)), entity, period)
    if not held_out and rng.random() < MASKED:
        fact.put_on_mask(rng)
    return fact


def draw_alike(rng: random.Random, fact: Fact, period: Period) -> Fact:
    """Return another fact of the same entity, of the same group where there is one."""
    return Fact(rng, rng.choice(alike(fact.entity.kind, fact.group, fact.relation.key)), fact.entity, period)


def surface_of(rng: random.Random, entity: Entity, how: str) -> Surface:
    """Return how a question names the entity: by `name`, `generic` or `pronoun`."""
    if how == "pronoun":
        subject = {"she": "she", "he": "he"}.get(entity.pronoun[0], "it")
        return Surface(subject, entity.pronoun[1])
    called = (
        rng.choice(entity.generic)
        if how == "generic"
        else entity.full
        if rng.random() < 0.5
        else entity.short
    )
    return Surface(called, possessive(rng, called))


def loosen(rng: random.Random, question: str) -> str:
    """Return the question as people type: synonyms, an opening, no capitals, a missing mark, a typo."""
    if rng.random() < 0.22:
        question = words.reword(rng, question, 0.35)
    form = rng.random()
    if form < 0.07:
        opening = rng.choice(
            (
                "Quick question: ",
                "Hi, ",
                "Hello! ",
                "Please: ",
                "One more thing: ",
                "Okay, ",
                "So ",
                "According to the report, ",
                "Do you know: ",
                "Can you tell me: ",
                "And ",
                "Now, ",
            )
        )
        lower = question[:1].lower() + question[1:]
        question = opening + (lower if question.split(" ")[0] in _QUESTION_WORDS else question)
    if rng.random() < 0.05:
        kept = [word for word in question.rstrip("?.").split(" ") if word.lower() not in _FUNCTION_WORDS]
        question = " ".join(kept) if len(kept) > 2 else question
    if rng.random() < 0.06:
        question = question.lower()
    if rng.random() < 0.07:
        question = question.rstrip("?.")
    if rng.random() < 0.02 and len(question) > 12:
        at = rng.randrange(4, len(question) - 4)
        question = question[:at] + question[at + 1] + question[at] + question[at + 2 :]
    return question


_FUNCTION_WORDS = frozenset(
    [
        "what",
        "who",
        "which",
        "is",
        "was",
        "were",
        "are",
        "did",
        "do",
        "does",
        "the",
        "a",
        "an",
        "of",
        "in",
        "at",
        "to",
        "for",
        "how",
        "much",
        "many",
        "it",
        "has",
        "have",
        "by",
        "on",
        "with",
        "be",
    ]
)
_QUESTION_WORDS = frozenset(
    [
        "What",
        "Who",
        "When",
        "Where",
        "Why",
        "How",
        "Which",
        "Whose",
        "On",
        "In",
        "At",
        "By",
        "For",
        "Is",
        "Does",
        "Did",
        "To",
        "Since",
    ]
)
