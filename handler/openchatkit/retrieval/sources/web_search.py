"""The web as a source, through a search engine's interface (port `Source`).

Two engines: Brave's public search interface, with a key, and SearXNG, which a team hosts itself. What they
return is a title, an address and a snippet; the pages themselves are read for the best few where
`fetch_pages` says so, under `FetchPolicy`. An answer from the web is data like any passage.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from openchatkit.ports import Passage, Query
from openchatkit.retrieval.blocks import UnreadableDocument, iso_date, one_line
from openchatkit.retrieval.html_reader import read_html
from openchatkit.retrieval.sources.fetching import Fetched, FetchFailed, FetchRefused, SafeFetcher
from openchatkit.retrieval.sources.results import PassageMaker, Result

BRAVE_URL = "https://api.search.brave.com/res/v1/web/search"
MAX_RESULTS = 20
MAX_SNIPPET_CHARACTERS = 2000
MAX_QUERY_CHARACTERS = 400
"""Brave's limit; nobody's question gains by more."""
HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})

_log = logging.getLogger(__name__)


class SearchEngine(Protocol):
    """A search engine's interface."""

    async def search(self, text: str, count: int) -> list[Result]:
        """Return at most `count` results, best first; raises `FetchFailed` or `FetchRefused`."""
        ...


class BraveSearch:
    """Brave Search's web search interface, version 1."""

    def __init__(
        self, fetcher: SafeFetcher, key: str, *, url: str = BRAVE_URL, language: str | None = None
    ) -> None:
        self._fetcher = fetcher
        self._key = key
        self._url = url
        self._language = language

    async def search(self, text: str, count: int) -> list[Result]:
        """Return at most `count` results, best first."""
        parameters = {"q": text, "count": str(count), "text_decorations": "false", "safesearch": "strict"}
        if self._language:
            parameters["search_lang"] = self._language
        headers = {"X-Subscription-Token": self._key, "Accept": "application/json"}
        answer = await self._fetcher.get(self._url, parameters=parameters, headers=headers, follow=False)
        web = _json_object(answer).get("web")
        found = web.get("results") if isinstance(web, Mapping) else None
        return [result for entry in _entries(found) if (result := _brave_result(entry))][:count]


class SearxngSearch:
    """A SearXNG instance with its JSON format switched on."""

    def __init__(self, fetcher: SafeFetcher, url: str, *, language: str | None = None) -> None:
        self._fetcher = fetcher
        self._url = url.rstrip("/") + "/search"
        self._language = language

    async def search(self, text: str, count: int) -> list[Result]:
        """Return at most `count` results, best first."""
        parameters = {"q": text, "format": "json", "safesearch": "2"}
        if self._language:
            parameters["language"] = self._language
        answer = await self._fetcher.get(self._url, parameters=parameters)
        found = _json_object(answer).get("results")
        return [
            result for entry in _entries(found) if (result := _result(entry, "content", "publishedDate"))
        ][:count]


class WebSource:
    """Search results as passages."""

    def __init__(
        self,
        engine: SearchEngine,
        maker: PassageMaker,
        fetcher: SafeFetcher,
        *,
        name: str = "web",
        results: int = 8,
        fetch_pages: int = 0,
    ) -> None:
        """Join an engine and what reads its pages.

        Args:
            engine: finds.
            maker: makes passages.
            fetcher: reads pages.
            name: of the source.
            results: asked from the engine, 1 to 20.
            fetch_pages: best results whose page is read, 0 for snippets alone.
        """
        self.name = name
        self._engine = engine
        self._maker = maker
        self._fetcher = fetcher
        self._results = results
        self._fetch_pages = fetch_pages

    async def search(self, query: Query, k: int) -> list[Passage]:
        """Return at most `k` passages, best first."""
        found = await self._engine.search(query.text[:MAX_QUERY_CHARACTERS], self._results)
        pages = await asyncio.gather(*(self._page(result) for result in found[: self._fetch_pages]))
        read = [*pages, *found[self._fetch_pages :]]
        return await asyncio.to_thread(self._maker.make, query, read, k)

    async def passage(self, passage_id: str) -> Passage | None:
        """Return a passage that was found lately; the web is not asked again."""
        return self._maker.find(passage_id)

    async def _page(self, result: Result) -> Result:
        """Return a result with its page's text in place of the snippet, or as it was."""
        if result.url is None:
            return result
        try:
            page = await self._fetcher.get(result.url)
            if page.content_type not in HTML_TYPES:
                return result
            parsed = await asyncio.to_thread(read_html, page.text)
        except (FetchFailed, FetchRefused, UnreadableDocument) as error:
            _log.info("a page was not read: %s", type(error).__name__)
            return result
        text = " ".join(block.text for block in parsed.blocks)
        return replace(result, text=f"{result.text} {text}") if text else result


def _json_object(answer: Fetched) -> dict[str, Any]:
    try:
        value = json.loads(answer.content)
    except ValueError:
        raise FetchFailed("the answer is not JSON") from None
    if not isinstance(value, dict):
        raise FetchFailed("the answer is not a JSON object")
    return value


def _entries(value: object) -> Sequence[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _brave_result(entry: Mapping[str, Any]) -> Result | None:
    result = _result(entry, "description", "page_age")
    more = entry.get("extra_snippets")
    if result is None or not isinstance(more, list):
        return result
    snippets = [one_line(snippet, MAX_SNIPPET_CHARACTERS) for snippet in more if isinstance(snippet, str)]
    return replace(result, text=" ".join([result.text, *snippets]).strip())


def _result(entry: Mapping[str, Any], text: str, date: str) -> Result | None:
    values = {key: entry.get(key) for key in ("title", "url", text, date)}
    strings = {
        key: one_line(value, MAX_SNIPPET_CHARACTERS)
        for key, value in values.items()
        if isinstance(value, str)
    }
    if not strings.get("url") or not (strings.get("title") or strings.get(text)):
        return None
    return Result(
        title=strings.get("title") or strings["url"],
        text=strings.get(text, ""),
        url=strings["url"],
        date=iso_date(strings.get(date, "")),
    )
