from __future__ import annotations

import contextlib
import time

import pytest

from openchatkit.retrieval.blocks import UnreadableDocument, iso_date
from openchatkit.retrieval.html_reader import read_html
from openchatkit.retrieval.markdown_reader import read_markdown, read_text
from openchatkit.retrieval.readers import decode

MARKDOWN = """---
title: "Orla Freight: annual report"
company: Orla Freight
date: 2026-03-12
url: https://example.com/orla
tags: [a, b]
---

# Orla Freight

Intro with *stress*, **weight** and a [link](https://example.com/x).

## Risks

The main risks are:

- currency swings.
- a strike
  in the ports.

## Figures

| € million | 2025 | 2024 |
|-----------|-----:|-----:|
| Revenue   | 412  | 388  |
| Net debt  | 64   | 71   |

Setext heading
--------------
> A quoted line.
"""


def test_markdown_gives_front_matter_headings_lists_and_rows() -> None:
    parsed = read_markdown(MARKDOWN)
    assert (parsed.title, parsed.date, parsed.url) == (
        "Orla Freight: annual report",
        "2026-03-12",
        "https://example.com/orla",
    )
    assert parsed.metadata["company"] == "Orla Freight"
    assert "tags" not in parsed.metadata
    assert [(block.heading, block.text, block.whole) for block in parsed.blocks] == [
        (None, "Intro with stress, weight and a link.", False),
        ("Risks", "The main risks are: currency swings.", False),
        ("Risks", "The main risks are: a strike in the ports.", False),
        ("Figures", "Revenue (€ million): 2025 412; 2024 388", True),
        ("Figures", "Net debt (€ million): 2025 64; 2024 71", True),
        ("Setext heading", "A quoted line.", False),
    ]


@pytest.mark.parametrize(
    "front",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
        "[" * 5000,
        "x: !!python/object/apply:os.system ['true']",
        "x: " + "9" * 5000,
        "- not\n- a mapping",
        "x: {",
        "y: " + "z" * 100_000,
        "? - a\n: b",
    ],
)
def test_hostile_front_matter_costs_the_front_matter_only(front: str) -> None:
    parsed = read_markdown(f"---\n{front}\n---\nBody stays.")
    assert [block.text for block in parsed.blocks] == ["Body stays."]
    assert all(len(value) <= 200 for value in parsed.metadata.values())


def test_front_matter_that_never_ends_is_text() -> None:
    assert "title: x" in read_markdown("---\ntitle: x\nand on").blocks[0].text


def test_plain_text_has_a_title_paragraphs_lists_and_columns() -> None:
    parsed = read_text(
        "Quarterly note\n\nRevenue rose\nagain. It did.\n\n     2025   2024\nRevenue    412    388\n\n- one\n"
    )
    assert parsed.title == "Quarterly note"
    texts = [block.text for block in parsed.blocks]
    assert texts[0] == "Revenue rose again. It did."
    assert texts[-1] == "one"
    assert any("412" in text and "Revenue" in text for text in texts)


def test_html_keeps_what_a_reader_sees() -> None:
    parsed = read_html(
        """<!doctype html><html><head><title>Orla &amp; Co</title>
        <meta name="date" content="2026-02-03T10:00Z">
        <script>alert("no")</script><style>p {}</style>
        <link rel="canonical" href="https://example.com/o"></head>
        <body><nav>Menu</nav><h1>Orla &amp; Co</h1><h2>Results</h2><p>Revenue <b>rose</b> to 5.<p>Unclosed
        <div hidden>secret</div><div style="DISPLAY : none">secret</div><div aria-hidden="true">secret</div>
        <table><tr><th>€ million<th>2025<th>2024<tr><td>Revenue<td>412<td>388</table>
        <ul><li>first<li>second</ul>line<br>same</body></html>"""
    )
    assert (parsed.title, parsed.date, parsed.url) == ("Orla & Co", "2026-02-03", "https://example.com/o")
    texts = [block.text for block in parsed.blocks]
    assert texts[:2] == ["Revenue rose to 5.", "Unclosed"]
    assert "Revenue (€ million): 2025 412; 2024 388" in texts
    assert {"first", "second"} <= set(texts)
    assert {block.heading for block in parsed.blocks} == {"Results"}
    assert not any(word in " ".join(texts) for word in ("secret", "alert", "Menu"))


@pytest.mark.parametrize(
    "page",
    [
        "<p>a" * 50_000,
        "<div>" * 200_000,
        "<b>x<i>y</b>" * 200_000,
        "<table><tr><td>" * 3000 + "x",
        "<" * 1_000_000,
        "<!--" * 200_000,
        "&amp" * 200_000,
        "</p></div><h1><p></h1>x",
        "<html hidden><body style='display:none'>x",
        "",
    ],
)
def test_broken_pages_end_soon(page: str) -> None:
    start = time.perf_counter()
    with contextlib.suppress(UnreadableDocument):
        read_html(page)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"]
)
def test_encodings_are_told_apart(encoding: str) -> None:
    text = "Umsatz stieg auf 5 Millionen in Zürich. " * 5
    assert decode(text.encode(encoding)).lstrip("\ufeff") == text


@pytest.mark.parametrize("data", [bytes(range(256)) * 20, b"\x89PNG\r\n\x1a\n" + bytes(500), b"\xff\xfe\x00"])
def test_binary_is_no_text(data: bytes) -> None:
    with pytest.raises(UnreadableDocument):
        decode(data)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("2026-02-30", None), ("on 2026-02-03T00:00", "2026-02-03"), ("12026-02-03", None), ("", None)],
)
def test_dates_are_calendar_dates(value: str, expected: str | None) -> None:
    assert iso_date(value) == expected
