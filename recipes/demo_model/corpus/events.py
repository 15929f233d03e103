"""Who did what to what, when, where, why, how and with whom: sentences from a small grammar.

The question asks for one part of the sentence, with synonyms for the verb and the object. A part
that the sentence lacks makes a question that nothing answers although all of its words are there.
"""

from __future__ import annotations

import random

from recipes.demo_model.corpus import words
from recipes.demo_model.corpus.entities import Entity, Period
from recipes.demo_model.corpus.relations import Statement, Surface, articles
from recipes.demo_model.corpus.template import capitalise, tidy
from recipes.demo_model.corpus.values import fill

_PARTS = ("when", "where", "why", "purpose", "how", "with")
_REPORTS = (
    "{p} said that ",
    "According to {p}, ",
    "The report says that ",
    "It is known that ",
    "As {c} wrote, ",
)


class Event:
    """One deed and what is told about it."""

    def __init__(self, rng: random.Random, entity: Entity, period: Period) -> None:
        self.entity = entity
        self.period: Period | None = None
        self.group = "event"
        self.verbs = rng.choice(words.VERBS)
        self.verb = rng.choice(self.verbs)
        self.heads = rng.choice(words.NOUNS)
        self.head = rng.choice(self.heads) if rng.random() < 0.85 else words.pseudo_word(rng)
        self.adjectives = rng.choice(words.ADJECTIVES)
        self.adjective = rng.choice(self.adjectives) if rng.random() < 0.6 else ""
        self.tail = self._object_tail(rng)
        self.number = fill(rng, "count") if rng.random() < 0.22 else ""
        acts = entity.kind in ("company", "person", "body")
        self.subject = "" if acts and rng.random() < 0.75 else self._actor(rng)
        told = rng.choice((0, 1, 1, 2, 2, 3))
        self.parts = {part: self._part(rng, part, period) for part in rng.sample(_PARTS, told)}
        if "why" in self.parts:
            self.parts.pop("purpose", None)

    @staticmethod
    def _object_tail(rng: random.Random) -> str:
        form = rng.random()
        if form < 0.6:
            return ""
        if form < 0.75:
            return f" of {fill(rng, rng.choice(('p', 'l', 'c')))}"
        return f" {rng.choice(('for', 'of', 'with', 'from', 'against'))} {fill(rng, 'nouns')}"

    @staticmethod
    def _actor(rng: random.Random) -> str:
        form = rng.random()
        if form < 0.45:
            return words.person(rng)
        if form < 0.6:
            return words.company(rng)[0]
        return f"the {fill(rng, 'adj') + ' ' if rng.random() < 0.3 else ''}{fill(rng, 'profession')}" + (
            f" of {words.place(rng)}" if rng.random() < 0.3 else ""
        )

    @staticmethod
    def _part(rng: random.Random, part: str, period: Period) -> str:
        if part == "when":
            form = rng.random()
            return (
                f"on {fill(rng, 'date')}"
                if form < 0.4
                else f"in {fill(rng, 'year')}"
                if form < 0.7
                else (f"in {period.noun(rng)}" if form < 0.85 else f"in {fill(rng, 'month')}")
            )
        if part == "where":
            return rng.choice(
                (
                    f"in {words.place(rng)}",
                    f"in {words.country(rng)}",
                    f"near {words.place(rng)}",
                    f"in a {fill(rng, 'noun')} near {words.place(rng)}",
                    f"behind the {fill(rng, 'noun')}",
                )
            )
        if part == "why":
            if rng.random() < 0.5:
                link = rng.choice(("because of", "due to", "owing to", "on account of"))
                return f"{link} {fill(rng, 'cause')}"
            return f"{rng.choice(('because', 'because', 'since', 'as'))} {fill(rng, 'causeclause')}"
        if part == "purpose":
            return rng.choice(("", "in order ")) + fill(rng, "purpose")
        if part == "how":
            return f"{rng.choice(('by', 'by', 'with the help of', 'using', 'with'))} " + (
                fill(rng, "activity") if rng.random() < 0.3 else f"a {fill(rng, 'adj')} {fill(rng, 'noun')}"
            )
        joint = rng.choice(("together with", "with", "jointly with"))
        return f"{joint} {rng.choice((words.person(rng), words.company(rng)[0]))}"

    @property
    def key(self) -> tuple[str, ...]:
        """What is told."""
        return (self.entity.full, self.verb.base, self.head, self.adjective)

    @property
    def topic(self) -> str:
        """A word or two for a title."""
        return f"{self.adjective} {self.head}".strip()

    def vary(self, rng: random.Random) -> Event | None:
        """Return an event that shares the verb or the object with this one."""
        other = Event(rng, self.entity, Period(rng.randint(1990, 2030)))
        if rng.random() < 0.5:
            other.verbs, other.verb = self.verbs, self.verb
            while other.head in self.heads:
                other.heads = rng.choice(words.NOUNS)
                other.head = other.heads[0]
        else:
            other.heads, other.head = self.heads, self.head
            while other.verb in self.verbs:
                other.verbs = rng.choice(words.VERBS)
                other.verb = other.verbs[0]
        return other

    def _object(self, rng: random.Random, asked: bool) -> str:
        head, adjective = self.head, self.adjective
        if asked:
            if rng.random() < 0.4 and head in self.heads:
                head = rng.choice(self.heads)
            if adjective and rng.random() < 0.5:
                adjective = rng.choice((*self.adjectives, "", ""))
        phrase = f"{adjective} {words.plural(head) if self.number else head}".strip()
        tail = self.tail if not asked or rng.random() < 0.6 else ""
        if self.number:
            return f"{'the' if asked else self.number} {phrase}{tail}"
        article = "the" if asked else rng.choice(("the", "a", "the", "the" if self.subject else "its"))
        return f"{article} {phrase}{tail}"

    def state(self, rng: random.Random, named: bool, dated: bool) -> Statement:
        """Return the sentence."""
        name = self.entity.full if rng.random() < 0.6 else self.entity.short
        called = name if named else rng.choice((*self.entity.generic, self.entity.pronoun[0]))
        actor = self.subject or called
        things = self._object(rng, asked=False)
        told = list(self.parts.values())
        rng.shuffle(told)
        front = f"{told.pop()}, " if told and rng.random() < 0.25 else ""
        if rng.random() < 0.3:
            plural_object = bool(self.number)
            by = f" by {name if actor == called else actor}" if rng.random() < 0.85 else ""
            named = named and actor == called and bool(by)
            deed = f"{things} {'were' if plural_object else 'was'} {self.verb.participle}{by}"
        else:
            deed = f"{actor} {self.verb.past} {things}"
            named = named and not self.subject
        text = f"{front}{deed} {' '.join(told)}"
        if rng.random() < 0.06:
            report = rng.choice(_REPORTS).format(p=words.person(rng), c=words.company(rng)[0])
            text = report + text
        if rng.random() < 0.12:
            link, did = rng.choice(("which", "and this")), rng.choice(("cost", "took", "brought in"))
            text += f", {link} {did} {fill(rng, rng.choice(('money', 'duration')))}"
        mark = "." if rng.random() < 0.97 else "!"
        return Statement(capitalise(articles(tidy(text + mark))), named, False)

    def ask(self, rng: random.Random, surface: Surface, dated: bool) -> str:
        """Return a question for a part that the sentence holds."""
        return self._ask(
            rng,
            surface,
            rng.choice(("who", "what", *self.parts, *self.parts, *(["many"] * 2 if self.number else []))),
        )

    def ask_unanswered(self, rng: random.Random, surface: Surface) -> str:
        """Return a question for a part that the sentence lacks."""
        lacking = [part for part in _PARTS if part not in self.parts]
        if "why" in self.parts or "purpose" in self.parts:
            lacking = [part for part in lacking if part not in ("why", "purpose")]
        if self.number or rng.random() < 0.7 or not lacking:
            return self._ask(rng, surface, rng.choice(lacking)) if lacking else ""
        actor = self.subject or surface.subject
        base, things = rng.choice(self.verbs).base, self._object(rng, asked=True)
        return rng.choice(
            (
                f"How much did {actor} pay to {base} {things}?",
                f"How long did it take {actor} to {base} {things}?",
                f"How many {words.plural(self.head)} did {actor} {base}?",
                f"How often did {actor} {base} {things}?",
                f"Who paid {actor} to {base} {things}?",
                f"What did {actor} say about {things}?",
            )
        )

    def _ask(self, rng: random.Random, surface: Surface, part: str) -> str:
        actor = self.subject or surface.subject
        verb = rng.choice(self.verbs) if rng.random() < 0.5 else self.verb
        things = self._object(rng, asked=True)
        be = "were" if self.number else "was"
        forms: dict[str, tuple[str, ...]] = {
            "who": (
                f"who {verb.past} {things}",
                f"by whom {be} {things} {verb.participle}",
                f"who was it that {verb.past} {things}",
            ),
            "what": (
                f"what did {actor} {verb.base}",
                f"what was {verb.participle} by {actor}",
                f"did {actor} {verb.base} {things}",
                f"what happened to {things}",
                f"what did {actor} do with {things}",
            ),
            "when": (
                f"when did {actor} {verb.base} {things}",
                f"when {be} {things} {verb.participle}",
                f"in which year did {actor} {verb.base} {things}",
            ),
            "where": (
                f"where did {actor} {verb.base} {things}",
                f"where {be} {things} {verb.participle}",
                f"in what place {be} {things} {verb.participle}",
            ),
            "why": (
                f"why did {actor} {verb.base} {things}",
                f"why {be} {things} {verb.participle}",
                f"for what reason did {actor} {verb.base} {things}",
            ),
            "purpose": (
                f"what did {actor} {verb.base} {things} for",
                f"why did {actor} {verb.base} {things}",
                f"for what purpose {be} {things} {verb.participle}",
            ),
            "how": (
                f"how did {actor} {verb.base} {things}",
                f"how {be} {things} {verb.participle}",
                f"by what means did {actor} {verb.base} {things}",
            ),
            "with": (
                f"with whom did {actor} {verb.base} {things}",
                f"who helped {actor} {verb.base} {things}",
                f"who did {actor} {verb.base} {things} with",
            ),
            "many": (
                f"how many {words.plural(self.head)} did {actor} {verb.base}",
                f"how many {words.plural(self.head)} {be} {verb.participle}",
            ),
        }
        return capitalise(articles(tidy(rng.choice(forms[part])))) + "?"
