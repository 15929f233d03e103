"""What an answer's text may become on the page."""

from __future__ import annotations

import pytest

from local.page import render
from local.page.ports import Citation, Exchange, Override

REPORT = Citation(1, "Annual [report] *2025*", "documents", place="p. 3", date="2026-03-14")


def exchange(bot: str, **fields: object) -> Exchange:
    values: dict[str, object] = {"citations": (REPORT,), "finish_reason": "stop", "created_at": 0.0}
    return Exchange("abc", 2, "q", bot, **(values | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain, 10:30, https://a.example/x", "plain, 10:30, https://a.example/x"),
        ("USD:EUR", r"USD\:EUR"),
        ("Note:this :joy:", r"Note\:this \:joy:"),
        ("`a:b` and ```\nc:d\n```", "`a:b` and ```\nc:d\n```"),
        ("```\nstill:open", "```\nstill:open"),
        ("![x](https://evil.example/x.png)", r"\![x](https://evil.example/x.png)"),
        ("[1](https://evil.example)", "[1] (https://evil.example)"),
        ("[1]: https://evil.example", r"[1]\: https://evil.example"),
    ],
)
def test_safe_markdown(text: str, safe: str) -> None:
    assert render.safe_markdown(text) == safe


def test_known_numbers_become_links_and_sources_are_listed() -> None:
    text = render.answer_markdown(exchange("It rose [1][7]. `x[1]`"))
    assert text == (
        "It rose [1](/passages/abc/2/1)[7]. `x[1]`\n\n*Sources*\n\n"
        r"- [1](/passages/abc/2/1) Annual \[report\] \*2025\* · p\. 3 · 2026\-03\-14"
    )


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"finish_reason": "cancelled"}, render.STOPPED),
        ({"finish_reason": "length"}, render.CUT),
        ({"retrieval_failed": True}, render.NO_RETRIEVAL),
    ],
)
def test_what_went_wrong_is_said(fields: dict[str, object], note: str) -> None:
    assert render.answer_markdown(exchange("Text", citations=(), **fields)) == f"Text\n\n{note}"


def test_a_conversation_as_steps() -> None:
    steps = render.thread_steps(
        [exchange("No.", citations=(), override=Override("output", "x"), rating="down")]
    )
    human, run, notice, bot = steps
    assert [step["type"] for step in steps] == [
        "user_message",
        "run",
        "assistant_message",
        "assistant_message",
    ]
    assert run["parentId"] == human["id"]
    assert notice["parentId"] == bot["parentId"] == run["id"]
    assert run["feedback"] == {"id": run["id"], "forId": run["id"], "value": 0, "comment": None}
    assert render.parse_step_id(run["id"]) == ("abc", 2)
    assert render.parse_step_id("8d7f") is None
