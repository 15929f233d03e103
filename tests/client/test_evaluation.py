"""Figures of a moderation, worked out by hand where they are small."""

from __future__ import annotations

import io

import pytest

from client.evaluation import (
    LABELS,
    BadDataset,
    Judged,
    Row,
    auroc,
    confusion,
    of_labels,
    percentile,
    read_dataset,
    thresholds,
)


def judged(true: str, said: str, harm: float) -> Judged:
    scores = {label: float(label == said) for label in LABELS}
    return Judged(Row("x", true in LABELS[3:], true), said, harm, scores, 0.01)


FOUR = [
    judged("casual", "casual", 0.0),
    judged("casual", "needs caution", 0.8),
    judged("needs caution", "needs caution", 0.8),
    judged("needs intervention", "needs intervention", 1.0),
]


def test_auroc() -> None:
    assert auroc([0.1, 0.2, 0.8, 0.9], [False, False, True, True]) == 1.0
    assert auroc([0.9, 0.1], [False, True]) == 0.0
    assert auroc([0.5, 0.5, 0.5], [True, False, False]) == 0.5
    assert auroc([0.1, 0.4, 0.35, 0.8], [False, False, True, True]) == 0.75
    assert auroc([0.1], [True]) is None
    assert auroc([], []) is None


def test_figures_of_a_label() -> None:
    figures = {each.label: each for each in of_labels(FOUR)}
    caution = figures["needs caution"]
    assert (caution.support, caution.precision, caution.recall) == (1, 0.5, 1.0)
    assert caution.auroc == pytest.approx((1 + 1 + 0.5) / 3)
    assert figures["casual"].recall == 0.5
    empty = figures["probably needs caution"]
    assert (empty.support, empty.precision, empty.recall, empty.auroc) == (0, None, None, None)


def test_confusion() -> None:
    table = confusion(FOUR)
    assert table["casual"]["needs caution"] == 1
    assert sum(map(sum, (row.values() for row in table.values()))) == 4


def test_thresholds() -> None:
    found = {round(each.harm, 1): each for each in thresholds(FOUR)}
    assert (found[0.8].harmful, found[0.8].harmless) == (1.0, 0.5)
    assert (found[0.9].harmful, found[0.9].harmless) == (0.5, 0.0)
    assert thresholds([FOUR[0]])[0].harmful is None


def test_percentiles() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(n) for n in range(1, 101)], 0.95) == 95.0
    assert percentile([7.0], 0.95) == 7.0


def read(text: str, name: str = "data.jsonl") -> list[Row]:
    return list(read_dataset(io.StringIO(text, newline=""), name))


def test_json_lines() -> None:
    text = '{"text": "a", "label": "needs caution"}\n\n{"text": "b", "harmful": false, "bot": "c", "id": 7}\n'
    assert read(text) == [Row("a", True, "needs caution"), Row("b", False, None, "c")]


def test_csv() -> None:
    text = 'id,text,label,bot\r\n1,"two\nlines, and a comma",casual,\r\n2,b,needs intervention,reply\r\n'
    assert read(text, "data.csv") == [
        Row("two\nlines, and a comma", False, "casual"),
        Row("b", True, "needs intervention", "reply"),
    ]
    assert read("text,harmful\na,1\nb,No\n", "data.csv") == [Row("a", True), Row("b", False)]


CANARY = "canary-18d7"


@pytest.mark.parametrize(
    ("text", "name", "named"),
    [
        ("", "d.jsonl", "no rows"),
        ("text,label\n", "d.csv", "no rows"),
        (f"{CANARY}\n", "d.jsonl", "line 1: not JSON"),
        (f'["{CANARY}"]\n', "d.jsonl", "line 1: not an object"),
        ('\n{"label": "casual"}\n', "d.jsonl", 'line 2: "text"'),
        ('{"text": " ", "label": "casual"}\n', "d.jsonl", 'line 1: "text"'),
        (f'{{"text": "{CANARY}", "label": "{CANARY}"}}\n', "d.jsonl", 'line 1: "label"'),
        (f'{{"text": "{CANARY}"}}\n', "d.jsonl", "line 1: needs a"),
        ('{"text": "a", "harmful": "perhaps"}\n', "d.jsonl", "line 1: needs a"),
        ('{"text": "a", "label": "casual", "bot": 1}\n', "d.jsonl", 'line 1: "bot"'),
        (f"text,label\na,casual,{CANARY}\n", "d.csv", "line 2: more fields"),
        (f'text,label\n"{CANARY}"x,casual\n', "d.csv", "line 2: not CSV"),
    ],
)
def test_what_is_wrong_is_named_without_the_text(text: str, name: str, named: str) -> None:
    with pytest.raises(BadDataset) as raised:
        read(text, name)
    assert str(raised.value).startswith(named)
    assert CANARY not in str(raised.value)
