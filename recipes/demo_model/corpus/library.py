"""The small library that a question is about: documents of one subject, made of stories.

`World` draws the subject, the story and what is asked of it, and how a question that nothing answers
comes by that; `documents` tells the stories, the right document first. No sentence but the right one
answers the question: stories that may are kept out, by the words of their questions.
"""

from __future__ import annotations

import datetime
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from openchatkit.prompt import neutralise_passage
from recipes.demo_model.corpus import disguise, values
from recipes.demo_model.corpus.entities import Entity, Period, entity, lookalike, period
from recipes.demo_model.corpus.stories import Sentence, Story, Telling, clashes, may_answer, subject_of, told
from recipes.demo_model.corpus.template import Template, capitalise, read_lines

KINDS = ("company",) * 16 + ("rules", "rules", "place", "body", "product")
"""Whom stories are about, by weight."""
DECLINES = ("missing",) * 2 + ("part",) * 3 + ("removed",) + ("entity",) * 2 + ("period",) * 2 + ("word",) * 2
"""Why nothing answers, by weight: the story never says; the sentence lacks the part; the sentence is gone;
another entity, another period, another word is asked for."""
HEADLINE_WORDS = (4, 8)
"""Words of a sentence that a headline takes over."""

ORNAMENTED = 0.06
"""Share of sentences with an opening that says nothing, and as many with such an ending."""
JOINED = 0.08
"""Share of sentences that become one with the sentence before."""

_OPENINGS = "sentence_openings.txt"
_SLOT = re.compile(r"\{([^}]*)\}")


@dataclass(slots=True)
class Line:
    """A sentence of a document."""

    telling: Telling
    sentence: Sentence
    text: str = ""


@dataclass(slots=True)
class Document:
    """A document in the making."""

    entity: Entity
    period: Period
    tellings: list[Telling]
    style: str
    labelled: bool
    title: str = ""
    date: str | None = None
    lines: list[Line] = field(default_factory=list)


@dataclass(slots=True)
class Asked:
    """A question in the making: which line of which telling, in which words."""

    telling: Telling
    number: int
    tag: str
    template: Template
    raw: str
    sentence: Sentence


def choices(template: Template, rng: random.Random) -> str:
    """Return a template's text with its choices made and its slots kept."""
    return template.expand(rng, lambda slot: "{" + slot + "}")


class World:
    """All that is written about one subject, and a question on it."""

    def __init__(self, rng: random.Random, answered: bool, held_out: bool) -> None:
        self.rng = rng
        kind = "company" if held_out else rng.choice(KINDS)
        self.subject = entity(rng, "body" if kind == "rules" else kind)
        self.when = period(rng)
        self.decline = "" if answered else rng.choice(DECLINES)
        self.pool = told(kind)
        stories = told(kind, held_out)
        if self.decline == "period":
            stories = tuple(story for story in stories if story.timed) or stories
        story = rng.choice(stories)
        self.target = Telling(rng, story, self.subject, self.when)
        self.asked = self._choose()
        self.siblings = story.timed and rng.random() < 0.5
        self.dated = story.timed and (self.siblings or self.decline == "period" or rng.random() < 0.5)

    def _choose(self) -> Asked:
        """Draw what is asked; a kind of decline that this story cannot have becomes another."""
        rng, story, target = self.rng, self.target.story, self.target
        if self.decline == "missing":
            template = rng.choice(story.unanswered)
            return Asked(target, -1, "", template, choices(template, rng), target.sentences[0])
        number = rng.randrange(len(story.lines))
        if self.decline == "part":
            options = [
                (n, tag, question)
                for n, line in enumerate(story.lines)
                for tag, question in line.questions
                if tag and not self._told_elsewhere(n, question)
            ]
            if options:
                number, tag, question = rng.choice(options)
                sentence = target.tell(rng, number, without=tag)
                self._put(sentence)
                return Asked(target, number, tag, question, choices(question, rng), sentence)
            self.decline = "removed"
        for _ in range(8):
            number = rng.randrange(len(story.lines))
            tag, question = rng.choice(story.lines[number].questions)
            sentence = target.tell(rng, number, want=tag)
            raw = choices(question, rng)
            if self.decline == "period" and "{t?}" not in raw:
                continue
            if self._names(raw) <= self._names(
                " ".join([sentence.text, *(s.text for s in target.sentences)])
            ):
                break
        if tag and tag not in sentence.parts:  # another wording than the one that has the part
            plain = [pair for pair in story.lines[number].questions if not pair[0]]
            tag, question = rng.choice(plain) if plain else (tag, question)
            raw = choices(question, rng)
        self._put(sentence)
        return Asked(target, number, tag, question, raw, sentence)

    @staticmethod
    def _names(raw: str) -> set[str]:
        """Return the slots that name something: a question may only use what the story tells."""
        return {slot.split(":")[0] for slot in _SLOT.findall(raw)} - {"E", "E's", "t", "tp", "t?"}

    def _told_elsewhere(self, number: int, question: Template) -> bool:
        others = tuple(
            other.source
            for n, line in enumerate(self.target.story.lines)
            for _, other in line.questions
            if n != number
        )
        return may_answer(question.source, others)

    def _put(self, sentence: Sentence) -> None:
        kept = [other for other in self.target.sentences if other.number != sentence.number]
        kept.append(sentence)
        self.target.sentences = sorted(kept, key=lambda other: other.number)

    def documents(self) -> list[Document]:
        """Return the right document first, then others of the subject and of look-alikes."""
        rng, story = self.rng, self.target.story
        if self.decline == "removed":
            number = self.asked.number
            kept = [s for s in self.target.sentences if s.number != number]
            self.target.sentences = kept or [self.target.tell(rng, (number + 1) % len(story.lines))]
        documents = [self._document(self.subject, self.when, self.target)]
        if self.siblings:
            for _ in range(rng.choice((1, 1, 2))):
                when = self._other_period(documents)
                telling = self._sibling(when)
                if not telling.sentences:
                    continue
                documents.append(self._document(self.subject, when, telling))
        alone = len(self.pool) == 1  # a second telling of the same story would contradict the first
        more = range(0 if alone else rng.choice((0, 1, 1, 1, 2)))
        documents += [self._document(self.subject, period(rng), None) for _ in more]
        if rng.random() < 0.35:
            other = lookalike(rng, self.subject)
            alike = Telling(rng, story, other, self.when) if alone or rng.random() < 0.7 else None
            documents.append(self._document(other, self.when, alike))
        return documents

    def _sibling(self, when: Period) -> Telling:
        """Return the story of another period; the line that is asked for only if the question is dated."""
        rng, number = self.rng, self.asked.number
        telling = Telling(rng, self.target.story, self.subject, when)
        dated = "{t?}" in self.asked.raw
        if number >= 0 and (not dated or rng.random() < 0.8):
            telling.sentences = [s for s in telling.sentences if s.number != number]
            if dated:
                telling.sentences.append(telling.tell(rng, number, want=self.asked.tag))
                telling.sentences.sort(key=lambda s: s.number)
        return telling

    def _other_period(self, documents: Sequence[Document]) -> Period:
        taken = {(document.period.year, document.period.part) for document in documents}
        for _ in range(8):
            when = self.when.other(self.rng)
            near = abs(when.year - self.when.year) == 1 and when.part == self.when.part
            # The year before stands in the answer itself: `against 12 million a year earlier`.
            if (when.year, when.part) not in taken and not (near and self.rng.random() < 0.7):
                return when
        return Period(self.when.year + 7, self.when.part)

    def _document(self, subject: Entity, when: Period, telling: Telling | None) -> Document:
        rng = self.rng
        tellings = [telling] if telling else []
        for _ in range(rng.choice((0, 1, 1, 2, 3)) if telling else rng.choice((1, 2, 2))):
            story = rng.choice(self.pool)
            used = story.key == self.target.story.key or any(t.story.key == story.key for t in tellings)
            if not used and not clashes(self.asked.template, story):
                tellings.append(Telling(rng, story, subject, when))
        if not tellings:
            tellings = [Telling(rng, self.spare(), subject, when)]
        rng.shuffle(tellings)
        style = "we" if subject.kind == "company" and rng.random() < 0.3 else "name"
        timed = any(telling.story.timed for telling in tellings)
        return Document(subject, when, tellings, style, timed and (self.dated or rng.random() < 0.6))

    def other_noun(self, documents: Sequence[Document]) -> str:
        """Return a period that no document speaks of, as a noun."""
        years = [document.period.year for document in documents]
        around = range(self.when.year - 9, self.when.year + 9)
        free = [year for year in around if not {year, year + 1} & set(years)]
        return Period(self.rng.choice(free), self.when.part).noun(self.rng)

    def spare(self) -> Story:
        """Return another story that does not answer the question."""
        for _ in range(20):
            story = self.rng.choice(self.pool)
            if story.key != self.target.story.key and not clashes(self.asked.template, story):
                return story
        others = [story for story in self.pool if story.key != self.target.story.key]
        return (others or told("company"))[0]

    def mask(self, documents: Sequence[Document]) -> None:
        """Swap the words that the question shares with its sentence, wherever the story is told."""
        table = disguise.swaps(self.rng, self.asked.sentence.text, self.asked.raw)
        if not table:
            return
        self.asked.raw = disguise.swap(self.asked.raw, table)
        for document in documents:
            for telling in document.tellings:
                if telling.story.key == self.target.story.key:
                    for sentence in telling.sentences:
                        sentence.text = disguise.swap(sentence.text, table)


def write(rng: random.Random, document: Document, dated: bool, kept: Sentence) -> None:
    """Fill in a document's sentences, title and date.

    Args:
        dated: whether the document has a date.
        kept: the sentence that answers: where two are joined, it is the one that is remembered.
    """
    for telling in document.tellings:
        for sentence in telling.sentences:
            subject = subject_of(rng, document.entity, document.style, opening=not document.lines)
            text = telling.write(rng, sentence.text, subject, subject[0] == "we")
            text = neutralise_passage(ornament(rng, text))
            last = document.lines[-1] if document.lines else None
            if last and last.telling is telling and rng.random() < JOINED:
                last.text = join(rng, last.text, text)
                last.sentence = sentence if sentence is kept else last.sentence
            else:
                document.lines.append(Line(telling, sentence, text))
    document.title = neutralise_passage(_title(rng, document))
    month = {"Q1": 4, "Q2": 7, "Q3": 10, "H1": 7}.get(document.period.part, 13) + rng.choice((0, 1, 1, 2))
    year = document.period.year + (month - 1) // 12
    if dated:
        document.date = datetime.date(year, (month - 1) % 12 + 1, rng.randint(1, 28)).isoformat()


@cache
def _openings() -> frozenset[str]:
    """Return words that open sentences and are no names."""
    return frozenset(word for line in read_lines(_OPENINGS) for word in line.split())


def _lower(text: str) -> str:
    """Return a sentence as it goes on behind a comma: a name keeps its capital."""
    first = text.split(" ", 1)[0].rstrip(",:")
    return text[:1].lower() + text[1:] if first in _openings() else text


def ornament(rng: random.Random, text: str) -> str:
    """Return a sentence, now and then with words before or behind it that say nothing to the point."""
    form = rng.random()
    if form < ORNAMENTED:
        opener = values.fill(rng, "opener")
        return f"{opener}{' ' if opener.endswith('that') else ', '}{_lower(text)}"
    if form < 2 * ORNAMENTED and text.endswith("."):
        return f"{text[:-1]}, {values.fill(rng, 'closer')}."
    return text


def join(rng: random.Random, first: str, second: str) -> str:
    """Return two sentences as one."""
    link = rng.choice(("; ", "; ", ", while ", ", and ", ", whereas ", " – ", ", but "))
    return f"{first.rstrip('.')}{link}{_lower(second)}"


def label(rng: random.Random, when: Period) -> str:
    """Return a period as a report's title has it."""
    quarters = {"Q1": "first", "Q2": "second", "Q3": "third", "Q4": "fourth"}
    if when.part in quarters:
        return rng.choice(
            (
                f"{quarters[when.part]} quarter {when.year}",
                f"{when.part} {when.year}",
                f"{when.part} {when.year}",
            )
        )
    if when.part:
        return rng.choice((f"half-year report {when.year}", f"{when.part} {when.year}"))
    return str(when.year)


def _title(rng: random.Random, document: Document) -> str:
    subject, first = document.entity, document.tellings[0]
    if first.story.titles:
        return capitalise(first.ask(rng, choices(rng.choice(first.story.titles), rng), ("", ""), ""))
    name = subject.short if rng.random() < 0.8 else subject.full
    form = rng.random()
    if document.labelled:
        when = label(rng, document.period)
        kind = rng.choice(
            ("annual report", "results", "trading update", "report", "letter to shareholders", "key figures",
             "sustainability report", "financial statements", "interim report", "management report", "news")
        )  # fmt: skip
        return capitalise(
            rng.choice((f"{name} {kind} {when}", f"{name} {kind} {when}", f"{name}: {kind} {when}",
                        f"{name}, {kind} {when}", f"{name} reports {when}", f"{name} {when} {kind}"))
        )  # fmt: skip
    if form < 0.45:
        line = rng.choice(document.lines).text.rstrip(".").split(" ")
        head = " ".join(line[: rng.randint(*HEADLINE_WORDS)]).rstrip(",;:–")
        named = subject.short in head
        return capitalise(head if named else f"{name}: {head}")
    kind = rng.choice(
        ("at a glance", "press release", "research note", "minutes", "profile", "news", "ad hoc notice",
         "prospectus summary", "fact sheet", "in brief", "filing", "company news", "interview", "background")
    )  # fmt: skip
    topic = first.story.key.replace("_", " ")
    return capitalise(
        rng.choice((f"{name} {kind}", f"{kind}: {name}", f"{name}: {topic}", f"{name}, {topic}", name))
    )
