"""The written questions: their passages, and how the demonstration model is shown them."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from openchatkit.prompt import neutralise_passage
from openchatkit.retrieval.splitter import split_sentences
from recipes.demo_model.corpus import single
from recipes.demo_model.corpus.dialogues import NO_PASSAGE, NOT_FOUND, dialogue
from recipes.demo_model.corpus.scenes import Passage
from recipes.demo_model.stream import REFUSAL_WEIGHT, Packer
from recipes.questions import bundles as module
from recipes.questions.bundles import alone, bundles, spans

TOKENIZER = Path(__file__).resolve().parents[2] / "local" / "demo_model" / "tokenizer.json"
YEAR = 2026
_DOCUMENT = ["Norvik Bakery has forty shops.", "They open at six.", "Flour comes from two mills."]


def test_a_sentence_that_leans_on_another_stands_behind_it() -> None:
    assert spans(_DOCUMENT) == [(0, 0), (0, 1), (2, 2)]
    assert alone(_DOCUMENT) == [_DOCUMENT[0], f"{_DOCUMENT[0]} {_DOCUMENT[1]}", _DOCUMENT[2]]


def test_every_passage_that_holds_the_sentence_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [
        {"q": "How many shops are there?", "gold": [[0, 0]]},
        {"q": "And when do they open?", "gold": [[0, 1]], "before": "How many shops are there?"},
        {"q": "Who owns it?", "gold": []},
    ]
    first = {"documents": [{"title": "Norvik", "sentences": _DOCUMENT}], "questions": asked}
    other = {"documents": [{"title": "Other", "sentences": ["It rains."]}], "questions": asked[2:]}
    (tmp_path / "one.jsonl").write_text(f"{json.dumps(first)}\n{json.dumps(other)}\n", encoding="utf-8")
    monkeypatch.setattr(module, "DATA", tmp_path)
    (trained,) = bundles(held_out=False)
    (held,) = bundles(held_out=True)
    assert [one.title for one in (*trained.candidates, *held.candidates)] == ["Norvik"] * 3 + ["Other"]
    assert [set(one.answers) for one in trained.questions] == [{0, 1}, {1}, set()]
    assert trained.questions[1].before == "How many shops are there?"


def test_a_passage_that_is_cut_keeps_the_answer() -> None:
    sentences = [f"Shop {name} sells bread." for name in ("A", "B", "C", "D", "E", "F")]
    passage = Passage("Norvik", None, " ".join(sentences))
    lengths = set()
    for seed in range(200):
        left = single.cut(random.Random(seed), passage, sentences[3])
        assert sentences[3] in left.text
        assert left.text in passage.text
        lengths.add(len(split_sentences(left.text)))
    assert lengths == {1, 2, 3}


def test_a_written_passage_is_altered_in_digits_and_plain_words_only() -> None:
    def shape(text: str) -> str:
        return re.sub(r"\d", "0", re.sub(r"\b[a-z]+\b", "word", neutralise_passage(text)))

    known = {neutralise_passage(one.text) for part in bundles(held_out=False) for one in part.candidates}
    shapes = {shape(text) for text in known}
    changed = 0
    for seed in range(60):
        made = single.written(random.Random(seed), YEAR)
        assert shape(made.passage.text) in shapes
        assert made.passage.date is None or made.passage.date <= f"{YEAR}-12-31"
        changed += made.passage.text not in known
    assert changed > 30


def test_what_is_held_out_is_shown_as_it_stands() -> None:
    held = {one.text for bundle in bundles(held_out=True) for one in bundle.candidates}
    trained = {asked.question for bundle in bundles(held_out=False) for asked in bundle.questions}
    for seed in range(40):
        made = single.written(random.Random(seed), YEAR, held_out=True)
        assert made.passage.text in held
        assert made.before or made.question not in trained


@pytest.mark.parametrize("source", ["", "seen", "held_out"])
def test_a_single_passage_is_repeated_whole(source: str) -> None:
    follows = 0
    for seed in range(150):
        made = dialogue(random.Random(seed), "single", source)
        (passage,) = made.passages
        assert made.reply == f"{passage.text} [1]"
        assert made.cited == 1 and made.answer and made.answer in passage.text
        follows += made.prompt.count("<human>:") > 1
    assert 0 < follows < 100


def test_a_refusal_weighs_less_where_there_are_passages() -> None:
    packer = Packer(TOKENIZER, seed=3, length=8192, slots=200, context_weight=1, ranked=1.0)
    seen = {}
    for _ in range(6):
        row = packer.row()
        for start, end in pairwise(np.unique(row.starts).tolist()):
            inside = np.flatnonzero(row.weights[start : end - 1] != packer.context_weight) + start
            if not len(inside) or row.targets[end - 2] != 0:
                continue
            reply = packer.tokenizer.decode(row.targets[inside[0] : end - 2].tolist()).strip()
            seen[reply] = int(row.weights[inside[0]])
            assert set(row.weights[inside[1:]].tolist()) == {10}
    assert seen.pop(NOT_FOUND) == REFUSAL_WEIGHT
    assert seen.pop(NO_PASSAGE) == 10
    assert set(seen.values()) == {10}
