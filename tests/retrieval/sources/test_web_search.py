from __future__ import annotations

import json
from typing import Any

import pytest

from openchatkit.ports import Query
from openchatkit.retrieval.encoder import SentenceEncoder
from openchatkit.retrieval.sources.fetching import FetchFailed, FetchPolicy, SafeFetcher
from openchatkit.retrieval.sources.results import PassageMaker, Result
from openchatkit.retrieval.sources.web_search import BraveSearch, SearxngSearch, WebSource
from tests.retrieval.sources.web import Page, Web

QUESTION = Query("Why did the shares of Brackwater Foods fall?")


def as_json(value: Any) -> Page:
    return Page(json.dumps(value).encode(), "application/json")


def brave(web: Web) -> dict[str, Any]:
    return {
        "type": "search",
        "web": {
            "results": [
                {
                    "title": "A recipe for bread",
                    "url": web.url("/bread"),
                    "description": "Flour, water, salt and time.",
                },
                {
                    "title": "Brackwater Foods slumps",
                    "url": web.url("/slump"),
                    "description": "The shares of Brackwater Foods fell by a tenth.",
                    "page_age": "2026-11-20T08:00:00",
                    "extra_snippets": ["It had warned of its profit.", 7],
                },
                {"title": "no address"},
                "nonsense",
            ]
        },
    }


async def test_brave(web: Web, policy: FetchPolicy, encoder: SentenceEncoder) -> None:
    web.pages["/brave"] = lambda _: as_json(brave(web))
    async with SafeFetcher(policy) as fetcher:
        engine = BraveSearch(fetcher, "secret", url=web.url("/brave"), language="en")
        source = WebSource(engine, PassageMaker("web", encoder), fetcher)
        [best, other] = await source.search(QUESTION, 5)
        assert await source.passage(best.id) == best
        assert await source.passage("unknown") is None
    assert best.text == "The shares of Brackwater Foods fell by a tenth. It had warned of its profit."
    assert (best.title, best.url, best.date) == ("Brackwater Foods slumps", web.url("/slump"), "2026-11-20")
    assert best.source == "web"
    assert best.score > 0.5 > other.score
    [asked] = web.asked
    assert asked.headers["x-subscription-token"] == "secret"
    assert asked.query["q"] == QUESTION.text
    assert asked.query["search_lang"] == "en"


async def test_searxng_and_pages(web: Web, policy: FetchPolicy, encoder: SentenceEncoder) -> None:
    results = [
        {"title": "Brackwater", "url": web.url("/slump"), "content": "News.", "publishedDate": "2026-11-20"},
        {"title": "Bread", "url": web.url("/gone"), "content": "Flour and water.", "publishedDate": None},
        {"title": "A file", "url": web.url("/file"), "content": "A table."},
    ]
    web.pages["/search"] = lambda _: as_json({"results": results})
    web.pages["/slump"] = lambda _: Page(
        b"<title>x</title><script>evil()</script><p>It rained. <p>Nobody minded. <p>The baker sang."
        b"<p>Brackwater Foods lost a tenth of its value because it warned of its profit."
    )
    web.pages["/file"] = lambda _: Page(b"%PDF-1.7", "application/pdf")
    async with SafeFetcher(policy) as fetcher:
        source = WebSource(
            SearxngSearch(fetcher, web.url("")), PassageMaker("web", encoder), fetcher, fetch_pages=3
        )
        passages = await source.search(QUESTION, 3)
    assert [passage.url for passage in passages[:1]] == [web.url("/slump")]
    assert "because it warned of its profit" in passages[0].text
    assert "evil" not in passages[0].text
    assert {passage.text for passage in passages[1:]} == {
        "Flour and water.",
        "A table.",
    }  # their pages failed
    assert web.asked[0].query["format"] == "json"


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'"x"', b""])
async def test_an_engine_that_talks_nonsense_fails(web: Web, policy: FetchPolicy, content: bytes) -> None:
    web.pages["/search"] = lambda _: Page(content, "application/json")
    async with SafeFetcher(policy) as fetcher:
        with pytest.raises(FetchFailed, match="JSON"):
            await SearxngSearch(fetcher, web.url("/")).search("x", 3)


@pytest.mark.parametrize("answer", [{}, {"results": None}, {"results": {}}, {"results": [1, None, {}]}])
async def test_an_engine_that_finds_nothing(
    web: Web, policy: FetchPolicy, encoder: SentenceEncoder, answer: dict[str, Any]
) -> None:
    web.pages["/search"] = lambda _: as_json(answer)
    async with SafeFetcher(policy) as fetcher:
        source = WebSource(SearxngSearch(fetcher, web.url("")), PassageMaker("web", encoder), fetcher)
        assert await source.search(QUESTION, 3) == []


def test_a_long_text_gives_its_best_sentences(encoder: SentenceEncoder) -> None:
    filler = " ".join(f"Sentence number {number} is about the weather." for number in range(40))
    text = f"{filler} Brackwater Foods fell because it warned of its profit. {filler}"
    maker = PassageMaker("web", encoder)
    [passage] = maker.make(QUESTION, [Result("T", text, url="https://example.com/")], 3)
    assert "because it warned" in passage.text
    assert len(passage.text) < 250
    assert maker.make(QUESTION, [Result("T", "")], 3) == []
    assert maker.make(QUESTION, [Result("T", text)], 0) == []
