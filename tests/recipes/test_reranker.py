from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from safetensors import safe_open

from openchatkit.retrieval.difference import FILE, save_difference
from openchatkit.retrieval.reranker import untrained
from recipes.questions.bundles import DATA
from recipes.reranker import mean
from recipes.reranker.examples import Example, drawn, generated, written

FILES = sorted(DATA.glob("*.jsonl"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_answer_points_at_a_sentence(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        bundle = json.loads(line)
        for asked in bundle["questions"]:
            assert set(asked) <= {"q", "gold", "before"}
            for document, sentence in asked["gold"]:
                assert bundle["documents"][document]["sentences"][sentence]


def test_what_is_held_out_is_never_trained_on() -> None:
    trained = {sentence for one in written(held_out=False) for sentence in one.candidates}
    held = {sentence for one in written(held_out=True) for sentence in one.candidates}
    assert held and not held & trained
    questions = list(written(held_out=False))
    assert len(questions) > 10_000
    assert 0.6 < sum(bool(one.gold) for one in questions) / len(questions) < 0.8


def test_a_follow_up_carries_the_words_that_it_leans_on() -> None:
    questions = {one.question for one in written(held_out=False)}
    assert any(question.count("?") == 2 for question in questions)


def test_candidates_hold_every_answer_and_the_nearest_others() -> None:
    example = Example("q", tuple(f"s{n}" for n in range(40)), frozenset({7}), "test")
    order = [*range(39, -1, -1)]
    texts, answers = drawn(random.Random(1), example, order, 16)
    assert len(texts) == len(set(texts)) == 16
    assert [text for text, right in zip(texts, answers, strict=True) if right] == ["s7"]
    assert {"s39", "s38", "s37"} <= set(texts)


def test_generated_questions_mark_the_passages_that_answer() -> None:
    made = list(generated(60, "test"))
    assert len(made) > 40
    assert all(place < len(one.candidates) for one in made for place in one.gold)
    assert any(one.gold for one in made) and any(not one.gold for one in made)


def test_the_mean_of_runs_holds_only_what_they_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, base = untrained()
    name = "bert.pooler.dense.bias"
    for run in (1, 2, 3):
        (tmp_path / str(run)).mkdir()
        save_difference(tmp_path / str(run) / FILE, base, base | {name: base[name] + run})
    runs = [str(tmp_path / str(run)) for run in (1, 2, 3)]
    monkeypatch.setattr("sys.argv", ["mean", *runs, "--out", str(tmp_path / "mean")])
    mean.main()
    with safe_open(tmp_path / "mean" / FILE, framework="pt") as file:
        assert list(file.keys()) == [name]
        assert file.get_tensor(name).mean() == pytest.approx(2.0)
