from __future__ import annotations

import json

import pytest

from openchatkit.ports import Query
from openchatkit.retrieval.encoder import SentenceEncoder
from openchatkit.retrieval.sources.fetching import FetchFailed, FetchPolicy, SafeFetcher
from openchatkit.retrieval.sources.http_api import Fields, HttpApi, HttpApiSource
from openchatkit.retrieval.sources.results import PassageMaker
from tests.retrieval.sources.web import Page, Web

FIELDS = Fields(
    results="data.hits", text="body || summary", title="meta.title", url="link", date="day", id="number"
)
ANSWER = {
    "data": {
        "hits": [
            {
                "number": 7,
                "body": "The dividend is 0.42 euros.",
                "meta": {"title": "Dividend"},
                "day": "2026-05-04",
            },
            {"summary": "A new plant opens in Tczew.", "meta": None, "link": "https://example.com/plant"},
            {"body": ["not", "text"]},
            {"number": 9},
            None,
        ]
    }
}


def api(web: Web, fields: Fields = FIELDS) -> HttpApi:
    return HttpApi(
        url=web.url("/api?tenant=a"),
        query_parameter="search",
        fields=fields,
        parameters={"sort": "new"},
        count_parameter="limit",
        headers={"Authorization": "Bearer key"},
    )


async def test_entries_become_passages(web: Web, policy: FetchPolicy, encoder: SentenceEncoder) -> None:
    web.pages["/api"] = lambda _: Page(json.dumps(ANSWER).encode(), "application/json")
    async with SafeFetcher(policy) as fetcher:
        source = HttpApiSource("filings", api(web), PassageMaker("filings", encoder), fetcher, results=6)
        found = await source.search(Query("How high is the dividend?"), 5)
        assert await source.passage(found[0].id) == found[0]
    assert [(passage.title, passage.text) for passage in found] == [
        ("Dividend", "The dividend is 0.42 euros."),
        ("https://example.com/plant", "A new plant opens in Tczew."),
    ]
    assert found[0].date == "2026-05-04"
    assert found[1].url == "https://example.com/plant"
    [asked] = web.asked
    assert asked.query == {
        "tenant": "a", "sort": "new", "search": "How high is the dividend?", "limit": "6"
    }  # fmt: skip
    assert asked.headers["authorization"] == "Bearer key"


@pytest.mark.parametrize("content", [b"", b"no json", b'{"data": {"hits": 5}}', b"[" * 100_000])
async def test_another_answer_is_a_failure(
    web: Web, policy: FetchPolicy, encoder: SentenceEncoder, content: bytes
) -> None:
    web.pages["/api"] = lambda _: Page(content, "application/json")
    async with SafeFetcher(policy) as fetcher:
        source = HttpApiSource("filings", api(web), PassageMaker("filings", encoder), fetcher, results=6)
        with pytest.raises(FetchFailed, match="configured"):
            await source.search(Query("x"), 5)


async def test_no_list_at_all_is_nothing_found(
    web: Web, policy: FetchPolicy, encoder: SentenceEncoder
) -> None:
    web.pages["/api"] = lambda _: Page(b"{}", "application/json")
    async with SafeFetcher(policy) as fetcher:
        source = HttpApiSource("filings", api(web), PassageMaker("filings", encoder), fetcher, results=6)
        assert await source.search(Query("x"), 5) == []


@pytest.mark.parametrize("name", ["results", "text", "title"])
def test_an_expression_that_is_none_is_refused_by_name(
    web: Web, policy: FetchPolicy, encoder: SentenceEncoder, name: str
) -> None:
    fields = Fields(**{"results": "a", "text": "b", name: "["})
    with pytest.raises(ValueError, match=f"fields.{name}"):
        HttpApiSource("x", api(web, fields), PassageMaker("x", encoder), SafeFetcher(policy), results=1)
