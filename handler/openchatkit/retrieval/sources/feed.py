"""News from RSS and Atom feeds: an item is answerable within a minute of its appearance (port `Source`).

A thread reads the feeds every `poll_s` seconds, asking only for what has changed, and embeds new items. The
items of the last `keep_days` are held in memory, newest first when there are too many; a search is a product
with their vectors. A feed that fails keeps the items it brought before.
"""

from __future__ import annotations

import asyncio
import calendar
import datetime
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import feedparser
import numpy as np

from openchatkit.ports import Embedding, Encoder, Passage, Query
from openchatkit.retrieval.blocks import UnreadableDocument, one_line
from openchatkit.retrieval.html_reader import read_html
from openchatkit.retrieval.sources.fetching import (
    Fetched,
    FetchFailed,
    FetchPolicy,
    FetchRefused,
    SafeFetcher,
)

POLL_S = 30.0
KEEP_DAYS = 90
MAX_ITEMS = 20_000
MAX_NEW_ITEMS = 500
"""Of one reading of one feed."""
MAX_TEXT_CHARACTERS = 1200
DAY_S = 86_400.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Item:
    passage: Passage
    published: float


@dataclass(slots=True)
class _Feed:
    url: str
    validators: dict[str, str] = field(default_factory=dict)
    """What makes the server answer only when there is something new."""


@dataclass(frozen=True, slots=True)
class _Items:
    """All items and their vectors, never changed: a search keeps the one it began with."""

    items: tuple[_Item, ...]
    vectors: Embedding


class FeedSource:
    """Items of feeds as passages. `start` begins to read, `close` ends it. Safe for many threads."""

    def __init__(
        self,
        urls: Sequence[str],
        encoder: Encoder,
        policy: FetchPolicy,
        *,
        name: str = "news",
        poll_s: float = POLL_S,
        keep_days: float = KEEP_DAYS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Watch feeds.

        Args:
            urls: of the feeds.
            encoder: embeds items; the one that embeds questions.
            policy: what may be fetched.
            name: of the source.
            poll_s: seconds between two readings.
            keep_days: age at which an item is dropped.
            clock: seconds since the epoch.
        """
        self.name = name
        self._feeds = [_Feed(url) for url in dict.fromkeys(urls)]
        self._encoder = encoder
        self._policy = policy
        self._poll_s = poll_s
        self._keep_s = keep_days * DAY_S
        self._clock = clock
        self._held = _Items((), np.empty((0, encoder.dimension), dtype=np.float32))
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def __len__(self) -> int:
        return len(self._held.items)

    def start(self) -> None:
        """Read the feeds from now on. A second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name=f"feed-{self.name}", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop reading; a reading that is under way ends by itself, within its time limit."""
        self._closing.set()

    async def search(self, query: Query, k: int) -> list[Passage]:
        """Return at most `k` items, best first."""
        return await asyncio.to_thread(self._search, query, k)

    async def passage(self, passage_id: str) -> Passage | None:
        """Return an item by its id, None where it is too old by now."""
        return next((item.passage for item in self._held.items if item.passage.id == passage_id), None)

    async def read(self) -> int:
        """Read all feeds once and return the number of new items. One call at a time."""
        async with SafeFetcher(self._policy) as fetcher:
            answers = await asyncio.gather(*(self._read(fetcher, feed) for feed in self._feeds))
        new = await asyncio.to_thread(self._take, [item for items, _ in answers for item in items])
        # Only now: what could not be taken in is read again the next time.
        for feed, (_, validators) in zip(self._feeds, answers, strict=True):
            feed.validators = validators
        return new

    def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                asyncio.run(self.read())
            except Exception as error:  # noqa: BLE001 - the watch must outlive a bad reading
                _log.warning("reading the feeds of %s failed: %s", self.name, type(error).__name__)
            self._closing.wait(self._poll_s)

    async def _read(self, fetcher: SafeFetcher, feed: _Feed) -> tuple[list[_Item], dict[str, str]]:
        """Return a feed's new items, and what to ask with the next time."""
        try:
            answer = await fetcher.get(feed.url, headers=feed.validators)
        except (FetchFailed, FetchRefused) as error:
            _log.warning("a feed of %s was not read: %s", self.name, type(error).__name__)
            return [], feed.validators
        if not answer.content:  # not modified
            return [], feed.validators
        return await asyncio.to_thread(self._parse, answer), _validators(answer)

    def _parse(self, answer: Fetched) -> list[_Item]:
        parsed = feedparser.parse(
            answer.content, response_headers={"content-type": answer.headers.get("content-type", "")}
        )
        held = {item.passage.id for item in self._held.items}
        items = []
        for entry in parsed.entries[:MAX_NEW_ITEMS]:
            item = self._item(entry, answer.url)
            if item and item.passage.id not in held:
                items.append(item)
        return items

    def _item(self, entry: feedparser.FeedParserDict, feed: str) -> _Item | None:
        title = one_line(_plain(str(entry.get("title", ""))))
        contents = [str(content.get("value", "")) for content in entry.get("content", [])]
        text = one_line(_plain(max([str(entry.get("summary", "")), *contents], key=len)), MAX_TEXT_CHARACTERS)
        if not (title or text):
            return None
        moment = entry.get("published_parsed") or entry.get("updated_parsed")
        published = float(calendar.timegm(moment)) if moment else self._clock()
        name = str(entry.get("id") or entry.get("link") or f"{feed} {title}")
        digest = hashlib.sha256(f"{name}\n{title}\n{text}".encode("utf-8", "replace")).hexdigest()[:24]
        day = datetime.datetime.fromtimestamp(published, datetime.UTC).date().isoformat()
        link = str(entry.get("link", ""))
        passage = Passage(
            id=digest,
            source=self.name,
            title=title or one_line(text, 80),
            text=text or title,
            score=0.0,
            url=link if link.startswith(("http://", "https://")) else None,
            date=day,
        )
        return _Item(passage, published)

    def _take(self, new: Sequence[_Item]) -> int:
        """Put new items in, and drop those that are too old or too many."""
        oldest = self._clock() - self._keep_s
        unique = list({item.passage.id: item for item in new if item.published >= oldest}.values())
        held = self._held
        kept = [row for row, item in enumerate(held.items) if item.published >= oldest]
        if not unique and len(kept) == len(held.items):
            return 0
        texts = [f"{item.passage.title}. {item.passage.text}" for item in unique]
        vectors = np.concatenate([held.vectors[kept], self._encoder.encode(texts)])
        items = [*(held.items[row] for row in kept), *unique]
        order = sorted(range(len(items)), key=lambda row: -items[row].published)[:MAX_ITEMS]
        self._held = _Items(tuple(items[row] for row in order), vectors[order])
        return len(unique)

    def _search(self, query: Query, k: int) -> list[Passage]:
        held = self._held
        if not held.items or k < 1:
            return []
        question = query.embedding if query.embedding is not None else self._encoder.encode([query.text])[0]
        scores = held.vectors @ question
        best = np.argsort(-scores, kind="stable")[:k]  # equal ones newest first
        return [replace(held.items[row].passage, score=float(scores[row])) for row in best.tolist()]


def _plain(text: str) -> str:
    """Return a title or a summary without its markup."""
    if "<" not in text and "&" not in text:
        return text
    try:
        return " ".join(block.text for block in read_html(text).blocks)
    except UnreadableDocument:
        return ""


def _validators(answer: Fetched) -> dict[str, str]:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    pairs = (("If-None-Match", "etag"), ("If-Modified-Since", "last-modified"))
    return {ours: headers[theirs] for ours, theirs in pairs if theirs in headers}
