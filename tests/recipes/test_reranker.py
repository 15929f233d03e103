"""The reranker's training, its data and its measure."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors import safe_open  # noqa: E402
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification  # noqa: E402

from local import defaults  # noqa: E402
from openchatkit.ports import Passage  # noqa: E402
from openchatkit.retrieval.difference import FILE, save_difference, with_difference  # noqa: E402
from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory  # noqa: E402
from openchatkit.retrieval.reranker import CrossEncoder, untrained  # noqa: E402
from recipes.questions.bundles import DATA  # noqa: E402
from recipes.reranker import mean, train  # noqa: E402
from recipes.reranker.examples import Example, drawn, generated, written  # noqa: E402
from recipes.reranker.measure import NEAREST, Case, measure, natural  # noqa: E402
from recipes.reranker.train import Job, Reader, loss_of  # noqa: E402

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


def _tiny_reader() -> Reader:
    torch.manual_seed(1)
    config = BertConfig(  # type: ignore[call-arg]
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        num_labels=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    tokenizer: Any = AutoTokenizer.from_pretrained(str(bundled_minilm_directory()))
    return Reader(BertForSequenceClassification(config), tokenizer, "cpu")


def _job(question: str, candidates: list[str], *gold: int) -> Job:
    return Job(Example(question, tuple(candidates), frozenset(gold), "test"), list(range(len(candidates))))


JOBS = [
    _job(
        "When does it open?",
        [f"Norvik. Shop {n} has {n} ovens and bakes all night." for n in range(20)],
        3,
        9,
    ),
    _job("Who owns it?", ["Norvik. It opens at six."]),
    _job("Where is it?", ["Norvik. It is in Bergen.", "Norvik. It has shops.", "Other. No."], 0),
]


def test_the_loss_lets_candidates_and_an_empty_place_compete() -> None:
    reader = _tiny_reader()
    loss = loss_of(reader, random.Random(5), JOBS, 6)
    rng, total = random.Random(5), torch.zeros(())
    for job in JOBS:
        texts, right = drawn(rng, job.example, job.order, 6)
        logits = [torch.zeros(())] + [reader.logits([job.example.question], [text])[0] for text in texts]
        shares = torch.stack(logits).softmax(0)
        total = total - shares[torch.tensor([not any(right), *right])].sum().log()
    assert float(loss.detach()) == pytest.approx(float(total.detach()) / len(JOBS), abs=1e-4)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in reader.network.parameters())


def test_training_learns_what_answers_and_when_nothing_does() -> None:
    reader = _tiny_reader()
    before = float(loss_of(reader, random.Random(1), JOBS, 6).detach())
    words = [weight.clone() for weight in reader.network.base_model.embeddings.parameters()]
    train.train(
        reader, random.Random(2), JOBS, JOBS[:1], seconds=4, rate=3e-3, questions=2, candidates=6, share=1.0
    )
    assert float(loss_of(reader, random.Random(1), JOBS, 6).detach()) < before / 2
    same = zip(words, reader.network.base_model.embeddings.parameters(), strict=True)
    assert all(torch.equal(old, new) for old, new in same)


def test_the_command_goes_on_from_a_reranker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = [job.example for job in JOBS]
    monkeypatch.setattr(train, "written", lambda *, held_out: iter(few))
    monkeypatch.setattr(train, "generated", lambda number, seed: generated(4, seed))

    def run(out: Path, *more: str) -> dict[str, Any]:
        monkeypatch.setattr("sys.argv", ["train", "--out", str(out), "--questions", "2", *more])
        train.main()
        _, base = untrained()
        return with_difference(out / FILE, base)

    start = ["--start", str(defaults.RERANKER)]
    _, base = untrained()
    committed = with_difference(defaults.RERANKER / FILE, base)
    kept = run(tmp_path / "kept", *start, "--seconds", "1e-9")
    moved = run(tmp_path / "moved", *start, "--seconds", "1")
    for name, weight in committed.items():
        # Written twice in eight bits: a step is a 127th of the row's largest change.
        assert torch.allclose(kept[name], weight, atol=2e-3), name
    name = "bert.encoder.layer.5.output.dense.weight"
    assert not torch.equal(moved[name], kept[name])
    assert (moved[name] - kept[name]).abs().max() < 0.05


async def test_the_measure_counts_right_ones_above_the_bar() -> None:
    reranker = CrossEncoder.load(str(defaults.RERANKER))
    passages = tuple(
        Passage("", "", "Norvik Bakery", text, 0.0)
        for text in ("Norvik Bakery opens at six in the morning.", "Norvik Bakery was founded by Ines Conti.")
    )
    cases = [
        Case("When does Norvik Bakery open?", passages, (True, False), answerable=True),
        Case("Who founded Norvik Bakery?", passages, (True, False), answerable=True),
        Case("How many trains ran to Bergen in May?", passages, (False, False), answerable=False),
    ]
    found = await measure(reranker, cases)
    assert (found["answerable"], found["unanswerable"]) == (2, 1)
    assert found["first"] == 0.5, "the second case calls the wrong sentence right"
    assert found["auroc"] == 1.0
    assert found["right, declined from 0.4"] == [0.5, 1.0]


def test_the_measured_questions_mark_the_passages_that_answer() -> None:
    cases = list(natural(SentenceEncoder.load(bundled_minilm_directory())))
    assert len(cases) > 150
    assert all(len(case.passages) == len(case.right) <= NEAREST for case in cases)
    assert not any(any(case.right) for case in cases if not case.answerable)
    reached = [any(case.right) for case in cases if case.answerable]
    assert sum(reached) / len(reached) > 0.95
