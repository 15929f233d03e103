"""Whole examples: preamble, history, passages, question and reply, as serving will show them.

The prompt is rendered by the handler's own functions, so that training and serving are one text.
`dialogue(rng)` is a pure function of the generator it is given.
"""

from __future__ import annotations

import datetime
import random
from dataclasses import dataclass

from openchatkit.prompt import DEFAULT_PREAMBLE, neutralise_passage, render_preamble, render_prompt
from recipes.demo_model.corpus.entities import entity, lookalike, period
from recipes.demo_model.corpus.events import Event
from recipes.demo_model.corpus.facts import Fact, draw_fact, surface_of
from recipes.demo_model.corpus.relations import trained
from recipes.demo_model.corpus.reports import report
from recipes.demo_model.corpus.scatter import alien_word
from recipes.demo_model.corpus.scenes import Passage, Scene, draw_claim, draw_kind, draw_target, make_scene
from recipes.demo_model.corpus.single import cut, repeated, written
from recipes.demo_model.corpus.smalltalk import chat
from recipes.demo_model.corpus.template import capitalise

NOT_FOUND = "I could not find that in the passages I was given."
NO_PASSAGE = "I found no passage on that."
FAMILIES = {"single": 0.4, "answered": 0.24, "declined": 0.18, "follow": 0.07, "chat": 0.045, "bare": 0.05}
"""Shares of the mixture; what is left of 1 is odd input. With half as many declined as answered, a model
trained on stories answered half of what no passage answers; with one bare in forty, and none of it of
stories, it made up an answer and passages to three in ten plain questions without any."""
WRITTEN = 0.5
"""Share of `single` and of `bare` that is of written documents (`single.py`)."""
REPORTED = {"answered": 0.6, "declined": 0.65, "follow": 0.75, "bare": 0.6}
"""Share of a family that is made of stories (`reports.py`)."""

_PREAMBLES = (
    "You are a helpful assistant. Answer from the passages and cite them.",
    "Answer only from the passages.",
    "You are a careful assistant for the staff of a company.",
    "Cite the numbers of the passages you use.",
)


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier exchange."""

    human: str
    bot: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One example: the prompt up to the bot's tag, and the reply."""

    prompt: str
    reply: str
    family: str
    passages: tuple[Passage, ...]
    answer: str | None
    """The sentence that answers; of a written document the whole passage."""
    cited: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """The last turn of an example, and the turns before it that it needs."""

    question: str
    reply: str
    passages: tuple[Passage, ...] = ()
    answer: str | None = None
    cited: int = 0
    before: tuple[Turn, ...] = ()


def _past(rng: random.Random, today: str) -> list[Turn]:
    """Return earlier turns that have nothing to do with the question."""
    turns: list[Turn] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        form = rng.random()
        if form < 0.4:
            said, reply, _ = chat(rng, today)
            turns.append(Turn(said, reply))
            continue
        when = period(rng)
        claim = draw_claim(rng, entity(rng, draw_kind(rng)), when)
        question = claim.ask(rng, surface_of(rng, claim.entity, "name"), dated=rng.random() < 0.5)
        reply = f"{claim.state(rng, rng.random() < 0.7, True).text} [{rng.choice((1, 1, 2, 2, 3, 4))}]"
        turns.append(Turn(question, reply if form < 0.85 else rng.choice((NOT_FOUND, NOT_FOUND, NO_PASSAGE))))
    return turns


def _earlier(rng: random.Random, claim: Fact | Event, dated: bool) -> Turn:
    """Return a turn that asked for the claim by name."""
    question = claim.ask(rng, surface_of(rng, claim.entity, "name"), dated)
    answer = f"{claim.state(rng, rng.random() < 0.7, True).text} [{rng.choice((1, 1, 2, 2, 3))}]"
    return Turn(question, answer if rng.random() < 0.85 else NOT_FOUND)


def _follow_up(rng: random.Random, ranked: bool, answered: bool) -> tuple[Scene, list[Turn]]:
    """Return a short question that only the turn before it completes."""
    subject, when = entity(rng, draw_kind(rng)), period(rng)
    fact = draw_fact(rng, subject, when)
    form = rng.random()
    if form < 0.6:
        before = draw_fact(rng, subject, when) if rng.random() < 0.7 else Event(rng, subject, when)
        scene = make_scene(rng, fact, when, answered, how="pronoun", ranked=ranked)
        return _shorten(rng, scene, fact), [_earlier(rng, before, scene.dated)]
    if fact.period is not None and form < 0.8:
        old = Fact(rng, fact.relation, subject, fact.period.other(rng))
        old.shared.update({"x": fact.shared["x"]} if "x" in fact.shared else {})
        scene = make_scene(rng, fact, when, answered, ranked=ranked)
        noun = fact.period.noun(rng)
        question = rng.choice(
            (
                f"What about {noun}?",
                f"And in {noun}?",
                f"And {noun}?",
                f"How about {noun}?",
                f"and for {noun}?",
            )
        )
        return _replace(scene, question), [_earlier(rng, old, dated=True)]
    if "x" in fact.shared and form < 0.9:
        old = Fact(rng, fact.relation, subject, fact.period)
        question = rng.choice(("What about {x}?", "And {x}?", "How about {x}?")).format(x=fact.shared["x"])
        return _replace(make_scene(rng, fact, when, answered, ranked=ranked), question), [
            _earlier(rng, old, dated=False)
        ]
    old = Fact(rng, fact.relation, lookalike(rng, subject), when)
    old.shared.update({"x": fact.shared["x"]} if "x" in fact.shared else {})
    name = subject.short
    question = rng.choice(
        (
            f"What about {name}?",
            f"And {name}?",
            f"How about {name}?",
            f"And what about {name}?",
            f"and at {name}?",
        )
    )
    return _replace(make_scene(rng, fact, when, answered, ranked=ranked), question), [
        _earlier(rng, old, dated=False)
    ]


def _shorten(rng: random.Random, scene: Scene, fact: Fact) -> Scene:
    noun = fact.ask_noun(rng, surface_of(rng, fact.entity, "pronoun"), dated=False)
    if not noun or rng.random() < 0.55:
        return scene
    return _replace(
        scene,
        rng.choice(
            (f"And {noun}?", f"What about {noun}?", f"And what is {noun}?", f"{noun}?", f"and {noun}")
        ),
    )


def _replace(scene: Scene, question: str) -> Scene:
    return Scene(scene.passages, capitalise(question), scene.answer, scene.cited, scene.claim, scene.dated)


def _plain_scene(rng: random.Random, answered: bool = True, source: str = "", ranked: bool = True) -> Scene:
    subject, when = entity(rng, draw_kind(rng)), period(rng)
    if source == "seen":
        return make_scene(
            rng, Fact(rng, rng.choice(trained(subject.kind)), subject, when), when, answered, ranked=ranked
        )
    if source == "held_out":
        while not trained(subject.kind, held_out=True):
            subject = entity(rng, draw_kind(rng))
        return make_scene(rng, draw_fact(rng, subject, when, held_out=True), when, answered, ranked=ranked)
    return make_scene(rng, draw_target(rng, subject, when), when, answered, ranked=ranked)


def _odd_question(rng: random.Random) -> str:
    """Return something that no passage answers: another script, signs, half a word."""
    form = rng.random()
    if form < 0.7:
        return " ".join(alien_word(rng) for _ in range(rng.randint(1, 7)))
    if form < 0.85:
        return "".join(chr(rng.randint(0x21, 0x7E)) for _ in range(rng.randint(3, 14)))
    return rng.choice("?!.…#*-–€1x") * rng.randint(1, 6)


def _family(rng: random.Random, bare: float) -> str:
    if bare and rng.random() < bare:
        return "bare"
    form = rng.random()
    for family, share in FAMILIES.items():
        form -= share
        if form < 0:
            return family
    return "odd"


def _repeating(question: str, passage: Passage, answer: str, before: tuple[Turn, ...]) -> _Asked:
    """Return the turn that repeats the one passage it is shown."""
    return _Asked(question, repeated(passage), (passage,), answer, 1, before)


def _single(rng: random.Random, source: str, year: int) -> _Asked:
    """Return a question with the one passage that a reranker leaves."""
    if source == "held_out" or (not source and rng.random() < WRITTEN):
        made = written(rng, year, held_out=source == "held_out")
        whole = neutralise_passage(made.passage.text)
        return _repeating(made.question, made.passage, whole, (Turn(*made.before),) if made.before else ())
    follow = rng.random() < 0.2
    if rng.random() < REPORTED["answered"]:
        told = report(rng, answered=True, follow=follow)
        passage, answer = told.passages[told.cited - 1], told.answer or ""
        before = (Turn(*told.before),) if told.before else ()
        return _repeating(told.question, cut(rng, passage, answer), answer, before)
    scene, turns = _follow_up(rng, ranked=True, answered=True) if follow else (_plain_scene(rng), [])
    answer = scene.answer or ""
    passage = cut(rng, scene.passages[scene.cited - 1], answer)
    return _repeating(scene.question, passage, answer, tuple(turns))


def _bare(rng: random.Random, source: str, year: int) -> _Asked:
    """Return a question for which nothing was found."""
    if source == "held_out" or (not source and rng.random() < WRITTEN):
        made = written(rng, year, held_out=source == "held_out")
        return _Asked(made.question, NO_PASSAGE, before=(Turn(*made.before),) if made.before else ())
    told = source.startswith("story") or (not source and rng.random() < REPORTED["bare"])
    question = (
        report(rng, answered=True).question
        if told
        else _plain_scene(rng, answered=False, source=source).question
    )
    return _Asked(question, NO_PASSAGE)


def _search(rng: random.Random, family: str, source: str, in_order: bool) -> _Asked:
    """Return a question with what a search brings for it."""
    answered = family == "answered" or (family == "follow" and rng.random() < 0.75)
    if source.startswith("story") or (not source and rng.random() < REPORTED[family]):
        told = report(rng, answered, follow=family == "follow", held_out=source == "story_held_out")
        question, passages, answer, cited = told.question, told.passages, told.answer, told.cited
        turns = [Turn(*told.before)] if told.before else []
    else:
        scene, turns = (
            _follow_up(rng, in_order, answered)
            if family == "follow"
            else (_plain_scene(rng, answered, source, in_order), [])
        )
        question, passages, answer, cited = scene.question, scene.passages, scene.answer, scene.cited
    before = tuple(turns)
    if len(passages) == 1:
        # What a single passage does not answer is not the model's to say: `single.py`.
        if not answer:
            return _search(rng, family, source, in_order)
        return _repeating(question, passages[0], answer, before)
    reply = f"{answer} [{cited}]" if answer else NOT_FOUND
    return _Asked(question, reply, passages, answer, cited, before)


def _aside(rng: random.Random, family: str, in_order: bool, today: str) -> _Asked:
    """Return small talk or odd input, as often as not with passages that a search brings anyway."""
    passages = () if rng.random() < 0.5 else _plain_scene(rng, answered=False, ranked=in_order).passages
    if family == "odd":
        return _Asked(_odd_question(rng), NOT_FOUND if passages else NO_PASSAGE, passages)
    question, reply, _ = chat(rng, today)
    return _Asked(question, reply, passages)


def dialogue(
    rng: random.Random,
    family: str = "",
    source: str = "",
    ranked: float = 0.0,
    bare: float = 0.0,
) -> Dialogue:
    """Return one example of a family; without one, of the mixture the model is trained on.

    Args:
        family: `single`, `answered`, `declined`, `follow`, `chat`, `bare`, `odd`, or empty for the mixture.
        source: `seen` or `held_out` for a written relation (for `single` and `bare` a written document) that
            training sees or never sees, `story` or `story_held_out` for a story; else anything.
        ranked: share of examples whose passages come in the order of a search; those of stories always do.
        bare: share of examples without passages, beside those that the mixture has.
    """
    family = family or _family(rng, bare)
    in_order = ranked > 0 and rng.random() < ranked
    day = datetime.date(2024, 1, 1) + datetime.timedelta(days=rng.randrange(2200))
    today = f"{day.day} {day:%B %Y}"
    form = rng.random()
    preamble = render_preamble(DEFAULT_PREAMBLE if form < 0.85 else rng.choice(_PREAMBLES), day)
    if form > 0.95:
        preamble, today = ("", "") if form > 0.975 else (render_preamble(DEFAULT_PREAMBLE, None), "")
    history = _past(rng, today) if rng.random() < 0.22 else []
    if family == "single":
        asked = _single(rng, source, day.year)
    elif family == "bare":
        asked = _bare(rng, source, day.year)
    elif family in ("chat", "odd"):
        asked = _aside(rng, family, in_order, today)
    else:
        asked = _search(rng, family, source, in_order)
    history = [*history[:1], *asked.before] if asked.before else history
    prompt = render_prompt(asked.question, preamble=preamble, history=history, passages=asked.passages)
    return Dialogue(prompt, asked.reply, family, asked.passages, asked.answer, asked.cited)
