from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate

import pytest

from openchatkit.ports import Query
from openchatkit.retrieval.encoder import SentenceEncoder
from openchatkit.retrieval.sources import feed as feed_module
from openchatkit.retrieval.sources.feed import DAY_S, FeedSource
from openchatkit.retrieval.sources.fetching import FetchPolicy
from tests.retrieval.sources.web import Asked, Page, Web

NOW = 1_790_000_000.0
WAIT_S = 60


def item(number: int, text: str, *, age_days: float = 1) -> str:
    date = formatdate(NOW - age_days * DAY_S, usegmt=True)
    return (
        f"<item><title>Story {number}</title><guid>g{number}</guid><link>https://example.com/{number}</link>"
        f"<description><![CDATA[<p>{text}</p><script>evil()</script>]]></description><pubDate>{date}</pubDate></item>"
    )


def rss(*items: str) -> Page:
    content = f"<rss version='2.0'><channel><title>News</title>{''.join(items)}</channel></rss>"
    return Page(content.encode(), "application/rss+xml")


def source(web: Web, policy: FetchPolicy, encoder: SentenceEncoder, *paths: str) -> FeedSource:
    urls = [web.url(path) for path in paths or ("/feed",)]
    return FeedSource(urls, encoder, policy, clock=lambda: NOW)


async def test_new_items_are_found(web: Web, policy: FetchPolicy, encoder: SentenceEncoder) -> None:
    first = item(1, "Vantellis Air orders twelve aircraft.")
    web.pages["/feed"] = lambda _: rss(first)
    news = source(web, policy, encoder)
    assert await news.search(Query("anything"), 3) == []
    assert await news.read() == 1
    assert await news.read() == 0
    web.pages["/feed"] = lambda _: rss(item(2, "Quillmark Software names a new chief executive."), first)
    assert await news.read() == 1
    assert len(news) == 2
    best, other = await news.search(Query("Who leads Quillmark Software?"), 5)
    assert best.text == "Quillmark Software names a new chief executive."
    assert (best.title, best.url, best.source) == ("Story 2", "https://example.com/2", "news")
    assert best.date == "2026-09-20"
    assert best.score > other.score
    found = await news.passage(best.id)
    assert found is not None
    assert found.text == best.text


async def test_asks_for_what_has_changed_only(
    web: Web, policy: FetchPolicy, encoder: SentenceEncoder
) -> None:
    def answer(asked: Asked) -> Page:
        if asked.headers.get("if-none-match") == '"one"':
            return Page(status=304)
        page = rss(item(1, "A story."))
        return Page(
            page.content,
            page.kind,
            headers={"ETag": '"one"', "Last-Modified": "Sun, 20 Sep 2026 00:00:00 GMT"},
        )

    web.pages["/feed"] = answer
    news = source(web, policy, encoder)
    assert [await news.read() for _ in range(3)] == [1, 0, 0]
    assert [asked.headers.get("if-none-match") for asked in web.asked] == [None, '"one"', '"one"']
    assert web.asked[1].headers["if-modified-since"] == "Sun, 20 Sep 2026 00:00:00 GMT"


async def test_atom_and_a_feed_that_fails(web: Web, policy: FetchPolicy, encoder: SentenceEncoder) -> None:
    atom = (
        '<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>urn:1</id><title>Ostrel &amp; co</title>'
        '<link href="javascript:alert(1)"/><updated>2026-09-19T10:00:00Z</updated>'
        "<content type='html'>&lt;b&gt;Ostrel&lt;/b&gt; builds a plant.</content></entry></feed>"
    )
    web.pages["/atom"] = lambda _: Page(atom.encode(), "application/atom+xml")
    news = source(web, policy, encoder, "/missing", "/atom")
    assert await news.read() == 1
    [passage] = await news.search(Query("Ostrel"), 1)
    assert (passage.title, passage.text, passage.url) == ("Ostrel & co", "Ostrel builds a plant.", None)
    web.pages["/atom"] = lambda _: Page(status=500)
    assert await news.read() == 0
    assert len(news) == 1  # what it brought before stays


async def test_old_items_go_and_the_newest_stay(
    web: Web, policy: FetchPolicy, encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "MAX_ITEMS", 3)
    items = [item(n, f"Text {n}.", age_days=n) for n in range(1, 6)] + [item(9, "Too old.", age_days=91)]
    web.pages["/feed"] = lambda _: rss(*items)
    news = source(web, policy, encoder)
    assert await news.read() == 5
    assert {passage.title for passage in await news.search(Query("Text"), 9)} == {
        "Story 1",
        "Story 2",
        "Story 3",
    }


@pytest.mark.parametrize(
    "content", [b"", b"<html>no feed</html>", b"<rss><channel><item></item>", b"\x00\xff" * 500]
)
async def test_what_is_no_feed_brings_nothing(
    web: Web, policy: FetchPolicy, encoder: SentenceEncoder, content: bytes
) -> None:
    web.pages["/feed"] = lambda _: Page(content, "application/xml")
    assert await source(web, policy, encoder).read() == 0


async def test_an_entity_bomb_is_no_feed(web: Web, policy: FetchPolicy, encoder: SentenceEncoder) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    entry = "<item><title>&e9;</title></item>"
    bomb = f'<!DOCTYPE rss [<!ENTITY e0 "boom">{entities}]><rss><channel>{entry}</channel></rss>'
    web.pages["/feed"] = lambda _: Page(bomb.encode(), "application/rss+xml")
    news = source(web, policy, encoder)
    await news.read()
    assert all(len(passage.text) < 2_000 for passage in await news.search(Query("boom"), 9))


async def test_the_watch_finds_an_item_soon_after_it_appears(
    web: Web, policy: FetchPolicy, encoder: SentenceEncoder
) -> None:
    web.pages["/feed"] = lambda _: rss(item(1, "First."))
    news = FeedSource([web.url("/feed")], encoder, policy, poll_s=0.2, clock=lambda: NOW)
    news.start()
    news.start()
    try:
        await until(lambda: len(news) == 1)
        web.pages["/feed"] = lambda _: rss(item(2, "Second."), item(1, "First."))
        await until(lambda: len(news) == 2)
        [passage] = await news.search(Query("Second."), 1)
        assert passage.title == "Story 2"
    finally:
        news.close()


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
