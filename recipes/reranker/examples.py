"""Questions with their candidates, as the reranker is trained on them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openchatkit.retrieval.follow_up import follow_up_queries
from openchatkit.retrieval.splitter import split_sentences
from recipes.demo_model.corpus.dialogues import dialogue
from recipes.questions.bundles import alone, bundles

ANSWERED = 0.65
"""Share of generated questions that a passage answers; of the written ones it is 0.72."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question and what a search might bring for it."""

    question: str
    candidates: tuple[str, ...]
    """`title. passage`, as the handler's reranker shows a passage to its model."""
    gold: frozenset[int]
    """Places of the candidates that answer; empty where none does."""
    origin: str


def shown(title: str, text: str) -> str:
    """Return a passage as `CrossEncoder` reads it."""
    return f"{title}. {text}"


def written(*, held_out: bool) -> Iterator[Example]:
    """Return the written questions, each with all passages of its bundle."""
    for bundle in bundles(held_out=held_out):
        candidates = tuple(shown(one.title, one.text) for one in bundle.candidates)
        for asked in bundle.questions:
            before = [asked.before] if asked.before is not None else []
            question = follow_up_queries(asked.question, before)[-1]
            yield Example(question, candidates, asked.answers, bundle.origin)


def generated(number: int, seed: str) -> Iterator[Example]:
    """Return questions on generated passages, stories and single facts alike (`recipes/demo_model`)."""
    for at in range(number):
        rng = random.Random(f"{seed}-{at}")
        family = "answered" if rng.random() < ANSWERED else "declined"
        made = dialogue(rng, family, rng.choice(("story", "seen")))
        question = made.prompt.rsplit("<human>: ", 1)[1].removesuffix("\n<bot>:").strip()
        candidates: list[str] = []
        gold = set()
        for place, passage in enumerate(made.passages, start=1):
            for text in alone([sentence.strip() for sentence in split_sentences(passage.text)]):
                if place == made.cited and made.answer is not None and made.answer in text:
                    gold.add(len(candidates))
                candidates.append(shown(passage.title, text))
        if candidates and bool(gold) == bool(made.cited):
            yield Example(question, tuple(candidates), frozenset(gold), "generated")


def drawn(
    rng: random.Random, example: Example, order: Sequence[int], most: int
) -> tuple[list[str], list[bool]]:
    """Return at most `most` candidates: all that answer, the likeliest by `order`, some by chance."""
    kept = list(example.gold)[: most // 2]
    hard = [place for place in order if place not in example.gold]
    near = hard[: most * 2]
    take = min(len(near), (most - len(kept)) * 3 // 4)
    kept += near[: take // 2] + rng.sample(near[take // 2 :], min(take - take // 2, len(near[take // 2 :])))
    rest = [place for place in hard if place not in set(kept)]
    kept += rng.sample(rest, min(len(rest), most - len(kept)))
    return [example.candidates[place] for place in kept], [place in example.gold for place in kept]
