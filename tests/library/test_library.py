"""Checks of the sample library, its questions and the natural reading sets."""

from __future__ import annotations

import datetime
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "local" / "library"
QUESTIONS = Path(__file__).resolve().parent / "questions.jsonl"
NATURAL = {name: ROOT / "recipes" / "demo_model" / f"natural_{name}.jsonl" for name in ("test", "dev")}
KINDS = {"annual_report", "quarterly_filing", "news", "research_note", "market"}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def read_documents() -> dict[str, tuple[dict[str, Any], str]]:
    """File name -> front matter and body."""
    documents: dict[str, tuple[dict[str, Any], str]] = {}
    for path in sorted(LIBRARY.glob("*.md")):
        head, separator, body = path.read_text(encoding="utf-8").partition("\n---\n")
        assert head.startswith("---\n"), path.name
        assert separator, path.name
        documents[path.name] = (yaml.safe_load(head[4:]), body)
    return documents


DOCUMENTS = read_documents()
LINES = read_lines(QUESTIONS)
ANSWERABLE = [line for line in LINES if line["kind"] in ("fact", "follow_up")]


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def test_counts() -> None:
    companies = Counter(head["company"] for head, _ in DOCUMENTS.values() if "company" in head)
    kinds = Counter(line["kind"] for line in LINES)
    assert len(DOCUMENTS) >= 40
    assert len(companies) >= 8
    assert min(companies.values()) >= 4
    assert kinds["fact"] >= 60
    assert kinds["follow_up"] >= 16
    assert kinds["unanswerable"] >= 20
    assert kinds["smalltalk"] == 8
    assert set(kinds) == {"fact", "follow_up", "unanswerable", "smalltalk"}


def test_library_holds_nothing_but_documents() -> None:
    assert {path.name for path in LIBRARY.iterdir()} == set(DOCUMENTS)


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_document(name: str) -> None:
    head, body = DOCUMENTS[name]
    assert head["title"].strip()
    assert head["kind"] in KINDS
    assert ("company" in head) != ("sector" in head)
    assert isinstance(head["date"], datetime.date)
    assert datetime.date(2024, 11, 1) <= head["date"] <= datetime.date(2026, 11, 30)
    owner = head.get("company") or head["sector"]
    assert name == f"{slug(owner)}-{head['kind']}-{head['date'].isoformat()}.md"
    assert 120 <= len(body.split()) <= 350


def test_identifiers_and_questions_are_unique() -> None:
    assert max(Counter(line["id"] for line in LINES).values()) == 1
    asked = Counter(
        json.dumps([line.get("history"), line["question"]], ensure_ascii=False).lower() for line in LINES
    )
    assert max(asked.values()) == 1


@pytest.mark.parametrize("line", ANSWERABLE, ids=[line["id"] for line in ANSWERABLE])
def test_answer_stands_in_the_library(line: dict[str, Any]) -> None:
    assert line["question"].strip()
    assert line["documents"]
    assert len(set(line["documents"])) == len(line["documents"])
    assert all(name in DOCUMENTS for name in line["documents"])
    assert line["evidence"]
    assert line["evidence"] in DOCUMENTS[line["documents"][0]][1]
    assert 1 <= len(line["answer"]) <= 2
    for answer in line["answer"]:
        assert answer.strip()
        assert answer in line["evidence"]
    for name in line["documents"][1:]:
        body = DOCUMENTS[name][1].lower()
        assert all(answer.lower() in body for answer in line["answer"]), name


def test_follow_ups_have_a_history() -> None:
    for line in LINES:
        if line["kind"] == "follow_up":
            assert len(line["history"]) == 1, line["id"]
            assert line["history"][0]["question"].strip(), line["id"]


def test_lines_without_an_answer_carry_none() -> None:
    for line in LINES:
        if line["kind"] in ("unanswerable", "smalltalk"):
            assert set(line) == {"id", "kind", "question"}, line["id"]


@pytest.mark.parametrize(("name", "answerable", "unanswerable"), [("test", 120, 60), ("dev", 40, 20)])
def test_natural_set(name: str, answerable: int, unanswerable: int) -> None:
    items = read_lines(NATURAL[name])
    assert max(Counter(item["id"] for item in items).values()) == 1
    assert sum(item["passage"] is not None for item in items) >= answerable
    assert sum(item["passage"] is None for item in items) >= unanswerable
    for item in items:
        where = item["id"]
        assert item["question"].strip(), where
        assert 1 <= len(item["passages"]) <= 4, where
        for passage in item["passages"]:
            assert set(passage) == {"title", "date", "text"}, where
            assert passage["title"].strip(), where
            assert passage["text"].strip(), where
            assert passage["date"] is None or datetime.date.fromisoformat(passage["date"]), where
        for turn in item.get("history", []):
            assert set(turn) == {"human", "bot"}, where
        if item["passage"] is None:
            assert item["evidence"] is None, where
            assert item["answer"] == [], where
            continue
        assert 1 <= item["passage"] <= len(item["passages"]), where
        assert item["evidence"] in item["passages"][item["passage"] - 1]["text"], where
        assert item["answer"], where
        assert all(answer in item["evidence"] for answer in item["answer"]), where


@pytest.mark.parametrize("name", ["test", "dev"])
def test_right_passage_is_spread_over_the_positions(name: str) -> None:
    places = Counter(item["passage"] for item in read_lines(NATURAL[name]) if item["passage"] is not None)
    total = sum(places.values())
    for position in (1, 2, 3, 4):
        assert 0.15 <= places[position] / total <= 0.35


def test_dev_and_test_share_nothing() -> None:
    test, dev = (read_lines(NATURAL[name]) for name in ("test", "dev"))
    assert not {i["question"].lower() for i in test} & {i["question"].lower() for i in dev}
    test_texts = {passage["text"] for item in test for passage in item["passages"]}
    dev_texts = {passage["text"] for item in dev for passage in item["passages"]}
    assert not test_texts & dev_texts
