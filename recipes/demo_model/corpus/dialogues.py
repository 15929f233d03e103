"""Whole examples: preamble, history, passages, question and reply, as serving will show them.

The prompt is rendered by the handler's own functions, so that training and serving are one text.
`dialogue(rng)` is a pure function of the generator it is given.
"""

from __future__ import annotations

import datetime
import random
from dataclasses import dataclass

from openchatkit.prompt import DEFAULT_PREAMBLE, render_preamble, render_prompt
from recipes.demo_model.corpus.entities import entity, lookalike, period
from recipes.demo_model.corpus.events import Event
from recipes.demo_model.corpus.facts import Fact, draw_fact, surface_of
from recipes.demo_model.corpus.relations import trained
from recipes.demo_model.corpus.reports import Report, report
from recipes.demo_model.corpus.scatter import alien_word
from recipes.demo_model.corpus.scenes import Passage, Scene, draw_claim, draw_kind, draw_target, make_scene
from recipes.demo_model.corpus.smalltalk import chat
from recipes.demo_model.corpus.template import capitalise

NOT_FOUND = "I could not find that in the passages I was given."
NO_PASSAGE = "I found no passage on that."
FAMILIES = {"answered": 0.43, "declined": 0.3, "follow": 0.12, "chat": 0.075, "bare": 0.045}
"""Shares of the mixture; what is left of 1 is odd input. With 0.2 declined, a model trained on stories
answered half of what no passage answers; with 0.025 bare, and none of it of stories, it made up an answer
and passages to three in ten plain questions without any."""
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
    cited: int


def _reply(scene: Scene) -> str:
    if not scene.passages:
        return NO_PASSAGE
    return f"{scene.answer} [{scene.cited}]" if scene.answer else NOT_FOUND


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


def _follow_up(rng: random.Random, ranked: bool) -> tuple[Scene, list[Turn]]:
    """Return a short question that only the turn before it completes."""
    subject, when = entity(rng, draw_kind(rng)), period(rng)
    answered = rng.random() < 0.75
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


def _plain_scene(rng: random.Random, answered: bool, source: str, ranked: bool) -> Scene:
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


def _from_report(rng: random.Random, family: str, source: str) -> Report | None:
    """Return a question on stories where the family and the source call for one."""
    if source.startswith("story") or (not source and rng.random() < REPORTED.get(family, 0.0)):
        answered = family in ("answered", "bare") or (family == "follow" and rng.random() < 0.75)
        return report(rng, answered, follow=family == "follow", held_out=source == "story_held_out")
    return None


def _alone(passages: tuple[Passage, ...], cited: int) -> tuple[tuple[Passage, ...], int]:
    """Return the passage that answers, or the search's first where none does, and its number."""
    return (passages[max(0, cited - 1) :][:1], min(cited, 1))


def dialogue(
    rng: random.Random,
    family: str = "",
    source: str = "",
    ranked: float = 0.0,
    bare: float = 0.0,
    single: float = 0.0,
) -> Dialogue:
    """Return one example of a family; without one, of the mixture the model is trained on.

    Args:
        family: `answered`, `declined`, `follow`, `chat`, `bare`, `odd`, or empty for the mixture.
        source: `seen` or `held_out` for a written relation that training sees or never sees, `story` or
            `story_held_out` for a story; else anything.
        ranked: share of examples whose passages come in the order of a search; those of stories always do.
        bare: share of examples without passages, beside those that the mixture has.
        single: share of examples with one passage, as a reranker leaves it; what to decline is the
            reranker's part then, so a single passage is always answered from.
    """
    alone = single > 0 and rng.random() < single
    if not family:
        family = _family(rng, bare)
        family = "answered" if alone and family == "declined" else family
    in_order = ranked > 0 and rng.random() < ranked
    day = datetime.date(2024, 1, 1) + datetime.timedelta(days=rng.randrange(2200))
    today = f"{day.day} {day:%B %Y}"
    form = rng.random()
    preamble = render_preamble(DEFAULT_PREAMBLE if form < 0.85 else rng.choice(_PREAMBLES), day)
    if form > 0.95:
        preamble, today = ("", "") if form > 0.975 else (render_preamble(DEFAULT_PREAMBLE, None), "")
    history = _past(rng, today) if rng.random() < 0.22 else []
    told = _from_report(rng, family, source)
    if told is not None and family == "bare":
        prompt = render_prompt(told.question, preamble=preamble, history=history)
        return Dialogue(prompt, NO_PASSAGE, family, (), None, 0)
    if told is not None:
        history = [*history[:1], Turn(*told.before)] if told.before else history
        passages, cited = _alone(told.passages, told.cited) if alone else (told.passages, told.cited)
        prompt = render_prompt(told.question, preamble=preamble, history=history, passages=passages)
        reply = f"{told.answer} [{cited}]" if told.answer else NOT_FOUND
        return Dialogue(prompt, reply, family, passages, told.answer, cited)
    if family == "follow":
        scene, turns = _follow_up(rng, in_order)
        history = history[:1] + turns
    else:
        scene = _plain_scene(rng, answered=family == "answered", source=source, ranked=in_order)
    question, reply, passages, answer, cited = (
        scene.question,
        _reply(scene),
        scene.passages,
        scene.answer,
        scene.cited,
    )
    if alone:
        passages, cited = _alone(passages, cited)
        reply = f"{answer} [{cited}]" if answer else reply
    if family in ("chat", "bare", "odd"):
        passages = () if family == "bare" or rng.random() < 0.5 else passages
        answer, cited = None, 0
        reply = NOT_FOUND if passages else NO_PASSAGE
    if family == "chat":
        question, reply, _ = chat(rng, today)
    elif family == "odd":
        question = _odd_question(rng)
    prompt = render_prompt(question, preamble=preamble, history=history, passages=passages)
    return Dialogue(prompt, reply, family, passages, answer, cited)
