"""Release of a reply in windows: text leaves only after it has been judged.

The source is read all the time; as soon as a sentence ends, or enough tokens have come, what has
been read is a window. It is judged together with the reply before it while the next one is being
generated, then released. A block closes the source at once. While the reader still has released text
to read, windows grow: a reply that is generated faster than it is read needs fewer judgements.

What a judge sees is a view: at most `context_characters` of the reply's end, begun at a word. A
window that is longer is judged in several views that overlap, so nothing shorter than
`OVERLAP_CHARACTERS` is ever cut in two. When the judge is slower than the source, windows grow
instead of queueing: the judge's own speed bounds the number of judgements.

    async with contextlib.aclosing(moderated(chunks, judge)) as cleared:
        async for released in cleared:
            ...
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from openchatkit.errors import EngineFailed, ModerationUnavailable
from openchatkit.moderation.policy import Decision
from openchatkit.ports import Chunk, Verdict
from openchatkit.tasks import give_up

WINDOW_TOKENS = 48
FIRST_WINDOW_TOKENS = 12
"""The first window is short: it decides when the user sees the first word."""
CONTEXT_CHARACTERS = 1_000
OVERLAP_CHARACTERS = 200
SHORTEST_SENTENCE = 100
"""Characters; what ends earlier (`1.`, `Yes.`, a short sentence) waits for company: a judgement costs the
same, and beside a reader's pace the next sentence comes at once."""
READING_PACE = 8.0
"""Tokens a second of a fast reader: some six English words (Brysbaert 2019 found four on average)."""
GROWTH = 3
"""Times what has been released, that a window holds while the reader still has text to read. A judgement
costs much the same for a short window and a long one; the text that is ahead of the reader can wait."""
MOST_GROWTH = 4
"""Times `window_tokens`, that a window grows to: about as much as one view shows."""
CLOSE_TIMEOUT_S = 5.0
"""How long a source may take to stop before the turn goes on without waiting for it."""

Mode = Literal["stream", "final", "off"]
Judge = Callable[[str], Awaitable[Decision]]

_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*(?=\s)|[。！？]|\n")
_WORD_SEARCH_CHARACTERS = 40
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Released:
    """Cleared text. The last item, and only it, carries `finish_reason`; its text is empty."""

    text: str
    tokens: int
    """Tokens that the source has generated so far, released or not."""
    finish_reason: Literal["stop", "length", "cancelled", "moderated"] | None = None
    decision: Decision | None = None
    """On the last item: the one that blocked, or the worst; None where nothing was judged."""

    @property
    def verdict(self) -> Verdict | None:
        """The verdict of `decision`."""
        return self.decision.verdict if self.decision else None


async def moderated(
    chunks: AsyncGenerator[Chunk],
    judge: Judge,
    *,
    mode: Mode = "stream",
    window_tokens: int = WINDOW_TOKENS,
    first_window_tokens: int = FIRST_WINDOW_TOKENS,
    context_characters: int = CONTEXT_CHARACTERS,
) -> AsyncGenerator[Released]:
    """Yield the source's text as far as `judge` clears it, in order, then one last item.

    The source is closed on every way out. After a block the last item's `finish_reason` is
    `moderated` and its `decision.reply` is what the user reads in place of the rest.

    Args:
        chunks: the reply as an engine generates it.
        judge: decides about the end of the reply so far, the text that waits for release included.
        mode: `stream` judges windows, `final` the whole reply at its end, `off` nothing.
        window_tokens: a window is full at so many tokens if no sentence ends before.
        first_window_tokens: the same for the first window.
        context_characters: most that one view holds, but for the rest of its first word.

    Raises:
        ModerationUnavailable: the judge failed; nothing that it had not cleared was released.
        EngineFailed: the source ended without a finish reason. Its own errors pass unchanged.
    """
    worst: Decision | None = None
    reading_until = float("-inf")
    async with contextlib.aclosing(_Source(chunks)) as source, _Asking(judge, context_characters) as asking:
        while True:
            limit = window_tokens if source.cleared else min(window_tokens, first_window_tokens)
            grown = max(limit, min(GROWTH * source.released_tokens, MOST_GROWTH * window_tokens))
            end = await source.next_window(mode, limit, grown, reading_until)
            if end is None:
                break
            # Blanks alone cannot be judged, and can do no harm.
            if mode != "off" and source.text[source.cleared : end].strip():
                judging = asking.about(source.text, source.cleared, end)
                await source.ended_or(judging)
                if not judging.done() and source.text[end:].strip():
                    # The rest is complete: it is judged now, not after the window before it.
                    asking.about(source.text, end, len(source.text))
                decision = await judging
                worst = decision if worst is None else max(worst, decision, key=lambda each: each.rank)
                if decision.blocked:
                    await source.aclose()
                    yield Released("", source.tokens, "moderated", decision)
                    return
            before = source.released_tokens
            text = source.take(end)
            reading_s = (source.released_tokens - before) / READING_PACE
            reading_until = max(reading_until, time.monotonic()) + reading_s
            yield Released(text, source.tokens)
        yield Released("", source.tokens, source.finish_reason, worst)


class _Asking:
    """Judgements that have been asked for; those that nobody waits for any more are broken off."""

    def __init__(self, judge: Judge, context_characters: int) -> None:
        self._judge = judge
        self._context_characters = context_characters
        self._tasks: dict[tuple[int, int], asyncio.Task[Decision]] = {}

    async def __aenter__(self) -> _Asking:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await give_up(self._tasks.values(), CLOSE_TIMEOUT_S)

    def about(self, text: str, start: int, end: int) -> asyncio.Task[Decision]:
        """Return the judgement of a window, asked for now if it has not been."""
        if (start, end) not in self._tasks:
            self._tasks[start, end] = asyncio.create_task(self._decide(text, start, end))
        return self._tasks[start, end]

    async def _decide(self, text: str, start: int, end: int) -> Decision:
        """Return the first decision that blocks, else the worst."""
        decisions = []
        for view in views(text, start, end, self._context_characters):
            decisions.append(await _ask(self._judge, view))
            if decisions[-1].blocked:
                return decisions[-1]
        return max(decisions, key=lambda each: each.rank)


def views(text: str, start: int, end: int, context_characters: int = CONTEXT_CHARACTERS) -> list[str]:
    """Return what a judge sees to clear `text[start:end]`: its end, with what went before."""
    overlap = min(OVERLAP_CHARACTERS, context_characters // 2)
    if end - context_characters <= max(0, start - overlap):
        # Views of a long reply begin at the same places, so that what a judge's engine keeps of one
        # (its prefix cache) serves the next: only new text is computed.
        step = context_characters // 2
        begin = -(-max(0, end - context_characters) // step) * step if step else end
        if begin > max(0, start - overlap):
            begin = max(0, end - context_characters)
        return [text[_word_start(text, begin) : end]]
    found, begin = [], max(0, start - overlap)
    while True:
        stop = min(end, begin + context_characters)
        found.append(text[_word_start(text, begin) : stop])
        if stop == end:
            return found
        begin = stop - overlap


def _word_start(text: str, place: int) -> int:
    for start in range(place, max(0, place - _WORD_SEARCH_CHARACTERS), -1):
        if text[start - 1].isspace():
            return start
    return place if place > _WORD_SEARCH_CHARACTERS else 0


async def _ask(judge: Judge, view: str) -> Decision:
    try:
        return await judge(view)
    except ModerationUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 (whatever a judge fails with, its text stays unreleased)
        _logger.warning("judging a reply failed: %s", type(error).__name__)
        # Not chained: the error of another library may quote the text.
        raise ModerationUnavailable("the reply could not be judged") from None


class _Source:
    """Reads chunks in a task of its own and knows where the next window ends."""

    def __init__(self, chunks: AsyncGenerator[Chunk]) -> None:
        self.text = ""
        self.cleared = 0
        """Characters of `text` that have been released."""
        self.released_tokens = 0
        self.tokens = 0
        self.finish_reason: Literal["stop", "length", "cancelled"] | None = None
        self._chunks = chunks
        self._pending: deque[tuple[int, int]] = deque()  # (where a chunk's text ends, its tokens)
        self._failure: Exception | None = None
        self._ended = asyncio.Event()
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for chunk in self._chunks:
                self.text += chunk.text
                self.tokens += chunk.tokens
                self._pending.append((len(self.text), chunk.tokens))
                if chunk.finish_reason is not None:
                    self.finish_reason = chunk.finish_reason
                    break
                self._news.set()
        except Exception as error:  # noqa: BLE001 (raised again by `next_window`, in the reader's own task)
            self._failure = error
        finally:
            if self.finish_reason is None and self._failure is None:
                self._failure = EngineFailed("the engine broke off its reply")
            self._ended.set()
            self._news.set()

    async def next_window(self, mode: Mode, limit: int, grown: int, reading_until: float) -> int | None:
        """Return where in `text` the next window ends, None after the last one.

        Args:
            limit: tokens of a full window, once the reader has read all that was released.
            grown: tokens of a full window before.
            reading_until: when the reader will have read it, monotonic.
        """
        while True:
            if self._failure is not None:
                raise self._failure
            pending = self.text[self.cleared :]
            if self._ended.is_set():
                return len(self.text) if pending else None
            if pending and mode == "off":
                return len(self.text)
            left = 0.0
            if mode == "stream":
                left = reading_until - time.monotonic()
                full, least = (grown, grown // 2) if left > 0 else (limit, 0)
                if pending and (length := self._window_length(pending, full, least)):
                    return self.cleared + length
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left if left > 0 else None)

    async def ended_or(self, judging: asyncio.Task[Decision]) -> None:
        """Return when there is nothing more to read, or the judgement is there."""
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({ended, judging}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()

    def _window_length(self, pending: str, full: int, least: int) -> int:
        """Return the length of the window that is ready, 0 where there is none yet.

        Args:
            full: tokens of a window that ends wherever it is.
            least: tokens before a sentence's end will do.
        """
        tokens = sum(tokens for end, tokens in self._pending if end > self.cleared)
        if tokens < least:
            return 0
        sentences = [match.end() for match in _SENTENCE_END.finditer(pending)]
        if sentences and sentences[-1] >= SHORTEST_SENTENCE:
            return sentences[-1]
        if tokens < full:
            return 0
        # The last word may still grow: half a word says nothing to a judge, nor to a reader.
        whole_words = len(pending) - len(pending.split()[-1]) if pending.split() else 0
        if pending[-1].isspace() or not pending[:whole_words].strip():
            return len(pending)
        return whole_words

    def take(self, end: int) -> str:
        """Return the text up to `end` as released."""
        text = self.text[self.cleared : end]
        self.cleared = end
        while self._pending and self._pending[0][0] <= end:
            self.released_tokens += self._pending.popleft()[1]
        return text

    async def aclose(self) -> None:
        """Stop reading and close the source; a second call does nothing."""
        self._task.cancel()
        try:
            await asyncio.wait({self._task}, timeout=CLOSE_TIMEOUT_S)
        finally:
            # The way out is decided already: an override, an error or a consumer that left.
            with contextlib.suppress(Exception):
                await self._chunks.aclose()
