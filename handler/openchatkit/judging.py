"""Judgements of texts by themselves: the MODERATE request, and the service of the role `moderation`.

The service holds nothing but a judge: no chat model, no store, no retrieval. It judges several
texts of a request at once, so that an engine can batch them; a text that cannot be judged fails the
whole request, for whoever asked must not mistake the rest for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from openchatkit import replies, wire
from openchatkit.errors import Overloaded
from openchatkit.ports import Closing, Moderator, Verdict
from openchatkit.settings import Settings
from openchatkit.tasks import all_of

JUDGEMENTS_AT_ONCE = 8
"""Texts of one request that are with the judge at the same time."""


async def judge_all(moderator: Moderator, request: wire.ModerateRequest) -> wire.Verdicts:
    """Return the verdicts on a request's texts, in their order.

    Raises:
        ModerationUnavailable: one of them could not be judged.
    """
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    places = asyncio.Semaphore(JUDGEMENTS_AT_ONCE)

    async def judge(text: str) -> Verdict:
        async with places:
            return await moderator.judge(text, request.bot)

    verdicts = await all_of(judge(text) for text in texts)
    return wire.Verdicts(verdicts=[replies.judgement(verdict) for verdict in verdicts])


class JudgingService:
    """What a process of the role `moderation` does."""

    def __init__(self, *, settings: Settings, moderator: Moderator, closing: Sequence[Closing] = ()) -> None:
        self._limit = settings.max_concurrent_turns
        self._moderator = moderator
        self._closing = closing
        self._in_flight = 0

    async def moderate(self, request: wire.ModerateRequest) -> wire.Verdicts:
        """Judge texts.

        Raises:
            Overloaded: as many requests are in flight as the settings allow turns.
            ModerationUnavailable: a text could not be judged.
        """
        if self._in_flight >= self._limit:
            raise Overloaded(f"{self._in_flight} requests are in flight, which is the limit here")
        self._in_flight += 1
        try:
            return await judge_all(self._moderator, request)
        finally:
            self._in_flight -= 1

    async def close(self) -> None:
        """Free the judge's models."""
        for part in self._closing:
            await part.close()
