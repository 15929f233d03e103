"""A whole service over real storage, with a queued engine and ruled moderation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openchatkit import wire
from openchatkit.chat import ChatModel
from openchatkit.moderation.counts import Counts
from openchatkit.moderation.passages import PassageScreen
from openchatkit.moderation.policy import ModerationPolicy
from openchatkit.service import OpenChatKitService
from openchatkit.settings import Settings
from openchatkit.stores.sqlite import SqliteStore
from openchatkit.turn import TurnRunner
from tests.fakes import ListRetriever, PhraseGuard, QueuedEngine, RuleModerator, passage


class House:
    """A service and its parts."""

    def __init__(self, path: Path) -> None:
        self.engine = QueuedEngine()
        self.moderator = RuleModerator()
        self.store = SqliteStore(path / "conversations.sqlite", retention_days=1)
        self.retriever: ListRetriever | None = ListRetriever((passage(1), passage(2)))
        self.guard: PhraseGuard | None = None
        self.settings: dict[str, Any] = {}
        self.policy = ModerationPolicy.load(None)
        self.counts = Counts()
        self._service: OpenChatKitService | None = None

    @property
    def service(self) -> OpenChatKitService:
        if self._service is None:
            settings = Settings(model="m", **self.settings)
            runner = TurnRunner(
                settings=settings,
                chat=ChatModel(self.engine, settings),
                moderator=self.moderator,
                policy=self.policy,
                retriever=self.retriever,
                encoder=None,
                guard=self.guard,
                passage_screen=PassageScreen(self.policy, self.counts),
                counts=self.counts,
            )
            self._service = OpenChatKitService(
                settings=settings, runner=runner, moderator=self.moderator, store=self.store
            )
        return self._service

    async def ask(self, text: str, **fields: Any) -> wire.Reply:
        return await self.service.reply(wire.ChatRequest(inputs=text, **fields))

    async def history(self, session_id: str | None, user: str = "anonymous") -> list[wire.StoredTurn]:
        assert session_id is not None
        request = wire.HistoryRequest(requestType="HISTORY", session_id=session_id, user_id=user)
        return (await self.service.history(request)).turns


async def settled(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for what is about to become true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
