"""A question with the passages a search might bring: one that answers, or none, and look-alikes.

A passage is one to four sentences of one document about one entity. The others speak of something else of the
same entity, of another year, or of the same thing of another entity. A question without an answer
keeps all of the look-alikes: that is what makes declining worth learning.
"""

from __future__ import annotations

import datetime
import random
from dataclasses import dataclass

from openchatkit.prompt import neutralise_passage
from recipes.demo_model.corpus import ranking
from recipes.demo_model.corpus.entities import KINDS, Entity, Period, entity, lookalike, period
from recipes.demo_model.corpus.events import Event
from recipes.demo_model.corpus.facts import Fact, draw_alike, draw_fact, loosen, surface_of
from recipes.demo_model.corpus.relations import Statement
from recipes.demo_model.corpus.scatter import Scatter, ask_by_words
from recipes.demo_model.corpus.template import capitalise

Claim = Fact | Event | Scatter

_COUNTS = (1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 4, 4, 5)
BY_WORDS = 0.08
"""Share of questions that are made of words of the answer."""
_LENGTHS = (1, 1, 1, 2, 2, 2, 3, 4)
_REPORTS = (
    "annual report",
    "annual report",
    "results",
    "report",
    "full-year results",
    "financial statements",
    "accounts",
    "management report",
    "letter to shareholders",
    "key figures",
    "year in review",
)
_TITLES = (
    "about",
    "profile",
    "notes",
    "news",
    "press release",
    "facts",
    "overview",
    "interview",
    "history",
    "handbook",
    "guide",
    "update",
    "FAQ",
    "background",
    "in brief",
    "today",
    "timeline",
    "report",
    "memo",
    "minutes",
)


@dataclass(frozen=True, slots=True)
class Passage:
    """What the prompt shows of a document."""

    title: str
    date: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Scene:
    """Passages, a question, and the sentence that answers it, if one does."""

    passages: tuple[Passage, ...]
    question: str
    answer: str | None
    cited: int
    """Number of the passage, from 1; 0 without an answer."""
    claim: Claim
    dated: bool
    """Whether the question names the period."""


@dataclass(slots=True)
class _Page:
    """A passage in the making."""

    entity: Entity
    period: Period
    claims: list[Claim]
    labelled: bool
    """Whether the title names the period."""


def draw_claim(rng: random.Random, subject: Entity, when: Period) -> Claim:
    """Return something to be told of the entity."""
    return Event(rng, subject, when) if rng.random() < 0.3 else draw_fact(rng, subject, when)


def draw_kind(rng: random.Random) -> str:
    """Return a kind of entity; companies are what is asked about most."""
    return "company" if rng.random() < 0.45 else rng.choice(KINDS)


def draw_target(rng: random.Random, subject: Entity, when: Period) -> Claim:
    """Return what the question asks for."""
    form = rng.random()
    if form < 0.68:
        return draw_fact(rng, subject, when)
    if form < 0.92:
        return Event(rng, subject, when)
    return Scatter(rng, subject, alien=form > 0.98)


def _near(rng: random.Random, target: Claim, when: Period) -> Claim:
    if isinstance(target, Fact):
        return draw_alike(rng, target, when)
    return target.vary(rng) or target


def _pages(rng: random.Random, target: Claim, when: Period, clash: bool, total: int) -> list[_Page]:
    """Return the pages beside the target's own. `clash` allows the same question of another period."""
    subject = target.entity
    pages: list[_Page] = []
    similar = rng.random() < 0.25
    other = lookalike(rng, subject)
    for _ in range(total):
        form = rng.random()
        if (similar and form < 0.5) or form < 0.16:
            if isinstance(target, Fact):
                twin = Fact(rng, target.relation, other, when if rng.random() < 0.7 else when.other(rng))
                if "x" in target.shared and rng.random() < 0.6:
                    twin.shared["x"] = target.shared["x"]
                pages.append(_Page(other, twin.period or when, [twin], rng.random() < 0.6))
            else:
                pages.append(_Page(other, when, [draw_claim(rng, other, when)], rng.random() < 0.4))
        elif (
            form < 0.36
            and (varied := target.vary(rng)) is not None
            and (clash or varied.period == target.period)
        ):
            pages.append(_Page(subject, varied.period or when, [varied], True))
        elif form < 0.6:
            pages.append(_Page(subject, when, [_near(rng, target, when)], rng.random() < 0.5))
        elif form < 0.85:
            pages.append(_Page(subject, when, [draw_claim(rng, subject, when)], rng.random() < 0.4))
        else:
            foreign = entity(rng, draw_kind(rng))
            pages.append(_Page(foreign, period(rng), [draw_claim(rng, foreign, when)], rng.random() < 0.3))
    return pages


def _pad(rng: random.Random, page: _Page, taken: set[tuple[str, ...]], target: Claim, single: bool) -> None:
    """Put more sentences of the same entity on the page, none of which answers the question."""
    wanted = 1 if single else rng.choice(_LENGTHS)
    while len(page.claims) < wanted:
        near = isinstance(target, Fact) and page.entity is target.entity and rng.random() < 0.4
        claim = _near(rng, target, page.period) if near else draw_claim(rng, page.entity, page.period)
        told = any(_same_question(claim, other) for other in page.claims)
        if claim.key not in taken and not told and not _same_question(claim, target):
            page.claims.append(claim)
    rng.shuffle(page.claims)


def _same_question(claim: Claim, target: Claim) -> bool:
    """Whether the claim might answer the target's question too."""
    if claim.entity.full != target.entity.full:
        return False
    if isinstance(claim, Fact) and isinstance(target, Fact):
        return claim.relation.key == target.relation.key and not (claim.mask and target.mask)
    return False


def _title(rng: random.Random, page: _Page, needs_name: bool) -> str:
    called = page.entity.short if rng.random() < 0.6 else page.entity.full
    topic = rng.choice(page.claims).topic
    label = f" {page.period.label(rng)}" if page.labelled else ""
    if not needs_name and rng.random() < 0.2:
        return capitalise(f"{topic}{label}")
    form = rng.random()
    if page.labelled and page.entity.kind == "company":
        return capitalise(
            f"{called} {rng.choice(_REPORTS)}{label}" if form < 0.7 else f"{called}: {topic},{label}"
        )
    if form < 0.25:
        return capitalise(called + label)
    if form < 0.5:
        return capitalise(f"{called}: {topic}{label}")
    if form < 0.6:
        return capitalise(f"{called}, {topic}{label}")
    if form < 0.7:
        return capitalise(f"{topic} of {called}{label}")
    if form < 0.8:
        return capitalise(f"{called} {topic}{label}")
    return capitalise(f"{called} {rng.choice(_TITLES)}{label}")


def _date(rng: random.Random, when: Period) -> str:
    start = {"Q1": 4, "Q2": 7, "Q3": 10, "Q4": 13, "H1": 7, "H2": 13}.get(when.part, 13)
    month = start + rng.choice((0, 0, 1, 1, 2))
    return datetime.date(when.year + (month - 1) // 12, (month - 1) % 12 + 1, rng.randint(1, 28)).isoformat()


def _write(
    rng: random.Random, page: _Page, target: Claim, pin: bool, dated_scene: bool, single: bool
) -> tuple[Passage, str | None]:
    """Return the passage and the target's sentence in it. `pin` makes every period visible."""
    sentences: list[str] = []
    answer: str | None = None
    named_before = False
    title_named = rng.random() < (0.95 if single else 0.8)
    for claim in page.claims:
        must_name = not title_named and not named_before
        named = must_name or rng.random() < (ranking.NAMED if single else 0.35 if named_before else 0.6)
        dated = rng.random() < 0.5 or (pin and not page.labelled)
        made: Statement = claim.state(rng, named, dated)
        named_before = named_before or made.named
        if pin and not page.labelled and not made.dated and claim.period is not None:
            page.labelled = True
        text = neutralise_passage(made.text)
        sentences.append(text)
        if claim is target:
            answer = text
    title = _title(rng, page, needs_name=not named_before or title_named)
    date = _date(rng, page.period) if dated_scene and rng.random() < 0.9 else None
    return Passage(title, date, " ".join(sentences)), answer


def make_scene(
    rng: random.Random, target: Claim, when: Period, answered: bool, how: str = "", ranked: bool = False
) -> Scene:
    """Return a scene around `target`.

    Args:
        answered: whether a passage holds the target's sentence.
        how: the way the question names the entity; chosen where it is left empty.
        ranked: whether the passages come in the order of a search (`ranking.py`).
    """
    single = ranked and rng.random() < ranking.SINGLE
    timed = target.period is not None
    dated = timed and rng.random() < 0.6
    total = rng.choice(_COUNTS)
    own = _Page(target.entity, target.period or when, [target], timed and rng.random() < 0.5)
    written_out = isinstance(target, Fact) and bool(target.relation.unanswered)
    hollow = not answered and rng.random() < (0.6 if written_out else 0.25)
    clash = timed and dated
    others = _pages(rng, target, when, clash, total - 1)
    pages = [own, *others] if answered or hollow else (others or _pages(rng, target, when, clash, 1))
    surface = surface_of(rng, target.entity, how or _how(rng, target.entity, pages))
    question = ""
    if hollow and not isinstance(target, Scatter):
        question = target.ask_unanswered(rng, surface)
    if not answered and not question:
        pages = [page for page in pages if target not in page.claims] or _pages(rng, target, when, clash, 2)
    taken = {target.key}
    for page in pages:
        _pad(rng, page, taken, target, single)
    rng.shuffle(pages)
    if ranked and answered:
        pages = ranking.rank(rng, pages, own)
    dated_scene = rng.random() < 0.6
    written = [_write(rng, page, target, dated or clash, dated_scene, single) for page in pages]
    if answered and not how and rng.random() < BY_WORDS:
        sentence = next(text for _, text in written if text)
        question = ask_by_words(rng, sentence or "", surface.subject)
    question = question or target.ask(rng, surface, dated)
    if not isinstance(target, Scatter):
        question = loosen(rng, question)
    if ranked and answered and pages[0] is own and rng.random() < ranking.BLURRED:
        question = ranking.blur(rng, question)
    found = [(number, text) for number, (_, text) in enumerate(written, 1) if text and answered]
    cited, answer = found[0] if found else (0, None)
    return Scene(tuple(passage for passage, _ in written), question, answer, cited, target, dated)


def _how(rng: random.Random, subject: Entity, pages: list[_Page]) -> str:
    alone = all(page.entity.kind != subject.kind or page.entity is subject for page in pages)
    return "generic" if alone and subject.kind != "person" and rng.random() < 0.25 else "name"
