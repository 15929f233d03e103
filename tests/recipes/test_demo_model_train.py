"""The training command of the small offline model, whole but tiny, and its probe."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from openchatkit.retrieval.splitter import split_sentences  # noqa: E402
from recipes.demo_model import evaluate, train  # noqa: E402
from recipes.demo_model.evaluate import Speaker, natural_cases  # noqa: E402
from recipes.demo_model.probe import FILE, Probe, wanted_replies  # noqa: E402

MODEL = Path(__file__).resolve().parents[2] / "local" / "demo_model"
TINY = {
    "layers": 1,
    "hidden": 32,
    "heads": 2,
    "inner": 48,
    "length": 2048,
    "sample": 120,
    "workers": 1,
    "number": 0,
    "steps": 3,
    "seconds": 120,
}


def _arguments(**more: Path) -> list[str]:
    return [text for name, value in (TINY | more).items() for text in (f"--{name}", str(value))]


@pytest.fixture
def some_rows(tmp_path: Path) -> Path:
    rows = FILE.read_text(encoding="utf-8").splitlines()
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join([rows[1], rows[-1]]) + "\n", encoding="utf-8")
    return file


def _natural_rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


def test_the_natural_questions_are_sound() -> None:
    rows = _natural_rows()
    assert sum(row["passage"] is not None for row in rows) >= 120
    assert sum(row["passage"] is None for row in rows) >= 40
    for row in rows:
        if row["passage"]:
            assert row["evidence"] in row["passages"][row["passage"] - 1]["text"]
            assert any(answer.casefold() in row["evidence"].casefold() for answer in row["answer"])
            assert len(split_sentences(row["evidence"])) == 1


def test_the_whole_command_trains_saves_and_goes_on(
    tmp_path: Path, some_rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "Probe", lambda tokenizer, device: Probe(tokenizer, device, some_rows))
    first, second = tmp_path / "first", tmp_path / "second"
    train.main(_arguments(out=first))
    report = json.loads((first / "scores.json").read_text(encoding="utf-8"))["training"]
    assert report["mixture"]["steps"] == 3
    assert report["mixture"]["natural_dev2"][-1].keys() == {"seconds", "step", "answered", "declined"}
    assert re.search(r"step +0 loss \d", capsys.readouterr().out)
    model: Any = AutoModelForCausalLM.from_pretrained(str(first))
    tokenizer = AutoTokenizer.from_pretrained(str(first))
    assert model.config.vocab_size == len(tokenizer)
    assert all(weight.isfinite().all() for weight in model.parameters())

    train.main(_arguments(out=second, start=first))
    again = json.loads((second / "scores.json").read_text(encoding="utf-8"))["training"]
    assert again["started_from"] == str(first)
    assert (first / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes()
    moved: Any = AutoModelForCausalLM.from_pretrained(str(second))
    assert not torch.equal(model.gpt_neox.embed_in.weight, moved.gpt_neox.embed_in.weight)


def test_the_probe_says_what_greedy_replies_say(some_rows: Path) -> None:
    torch.set_num_threads(1)  # threads that wait for each other crawl on a busy machine
    speaker = Speaker(MODEL, "cpu", 4)
    tokenizer: Any = speaker.tokenizer
    cases = natural_cases(some_rows)
    replies = speaker.replies([case.prompt for case in cases])
    pairs = list(zip(cases, replies, wanted_replies(some_rows), strict=True))
    shares = Probe(tokenizer, "cpu", some_rows).shares(speaker.model)
    for name, cited in (("answered", True), ("declined", False)):
        hits = [reply == wanted for case, reply, wanted in pairs if bool(case.cited) is cited]
        assert shares[name] == pytest.approx(sum(hits) / len(hits), abs=1e-3)


@pytest.mark.parametrize("name", ["natural_dev", "natural_test"])
def test_the_kept_search_order_is_of_the_present_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "search_order", lambda rows: pytest.fail("the kept order is out of date"))
    path = FILE.with_name(f"{name}.jsonl")
    orders = evaluate.kept_order(path)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [sorted(order) for order in orders] == [list(range(len(row["passages"]))) for row in rows]
