"""Questions with the sentences that answer them and those that only look as if they did.

`data/*.jsonl` has one bundle a line: documents on things that are easily mixed up, and questions on
them, a third of which nothing in the bundle answers. Twenty-three hands wrote them; none had seen the sample
library, a test set or this code. The last bundle (`HELD_OUT`) of every file is never trained on.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from openchatkit.retrieval.follow_up import follow_up_queries
from recipes.demo_model.corpus.dialogues import dialogue

DATA = Path(__file__).with_name("data")
HELD_OUT = 1


@dataclass(frozen=True, slots=True)
class Example:
    """One question and what a search might bring for it."""

    question: str
    candidates: tuple[str, ...]
    """`title. sentence`, as the handler's reranker shows a passage to its model."""
    gold: frozenset[int]
    """Places of the candidates that answer; empty where none does."""
    origin: str


def shown(title: str, sentence: str) -> str:
    """Return the text of a passage as `CrossEncoder` reads it."""
    return f"{title}. {sentence}"


def bundles(*, held_out: bool) -> Iterator[Example]:
    """Return the written questions, each with all sentences of its bundle."""
    for path in sorted(DATA.glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = lines[-HELD_OUT:] if held_out else lines[:-HELD_OUT]
        for line in kept:
            yield from _bundle(json.loads(line), path.stem)


def _bundle(bundle: dict[str, list[dict[str, object]]], origin: str) -> Iterator[Example]:
    places: dict[tuple[int, int], int] = {}
    candidates: list[str] = []
    for number, document in enumerate(bundle["documents"]):
        sentences = document["sentences"]
        assert isinstance(sentences, list)
        for at, sentence in enumerate(sentences):
            places[number, at] = len(candidates)
            candidates.append(shown(str(document["title"]), sentence))
    for asked in bundle["questions"]:
        before = [str(asked["before"])] if "before" in asked else []
        question = follow_up_queries(str(asked["q"]), before)[-1]
        gold = asked["gold"]
        assert isinstance(gold, list)
        yield Example(question, tuple(candidates), frozenset(places[a, b] for a, b in gold), origin)


def stories(number: int, seed: str) -> Iterator[Example]:
    """Return questions on generated stories (`recipes/demo_model`)."""
    from openchatkit.retrieval.splitter import split_sentences

    for at in range(number):
        rng = random.Random(f"{seed}-{at}")
        made = dialogue(rng, "answered" if rng.random() < 0.65 else "declined", "story")
        question = made.prompt.rsplit("<human>: ", 1)[1].removesuffix("\n<bot>:").strip()
        answer = made.reply.rsplit(" [", 1)[0] if made.cited else None
        candidates: list[str] = []
        gold = set()
        for place, passage in enumerate(made.passages, start=1):
            for sentence in split_sentences(passage.text):
                if place == made.cited and answer is not None and sentence.strip() == answer:
                    gold.add(len(candidates))
                candidates.append(shown(passage.title, sentence.strip()))
        if candidates and bool(gold) == bool(made.cited):
            yield Example(question, tuple(candidates), frozenset(gold), "stories")


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
