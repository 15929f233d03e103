"""The page on a scripted service, as a process of its own: `python tests/browser/serve.py PORT`.

The service answers by keyword, word for word, and keeps conversations in memory: no model, no index.
It is a process because Chainlit keeps its state in modules and environment variables.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import replace

import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware

from local.guard import LocalGuard
from local.page import About, mount_page
from local.page.ports import (
    Citation,
    Delta,
    Event,
    Exchange,
    Override,
    Rating,
    SessionEntry,
    SessionList,
    Started,
)
from openchatkit.errors import EngineFailed, SessionNotFound

REPORT = Citation(
    number=1,
    title="Nordwind AG, Annual report 2025",
    source="documents",
    text="Revenue rose to EUR 412 million.\n<b>Not bold</b> & plain.",
    url="https://example.com/nordwind-2025.html",
    date="2026-03-14",
    place="Section 2, Revenue",
)
NOTE = Citation(2, "Research note: Nordwind AG", "documents", "Margins held at 18 %.", date="2026-04-02")
ANSWERS = {
    "revenue": "Nordwind AG's revenue was EUR 412 million in 2025 [1], and margins held [1][2]. "
    "The pair is USD:EUR.",
    "picture": "Look: ![leak](https://evil.example/x.png) <img src=https://evil.example/y.png> "
    "[1](https://evil.example/z)",
    "moderated": "I can't help with that.",
    "list": "Three things:\n\n- one\n- two\n\n"
    "```python\nprint('a:b')\n```\n\n| Company | Revenue |\n|---|---|\n| Nordwind | 412 |",
}
DEFAULT = "You asked: {text}. Attempt {attempt}."
WORD_S = 0.03


class ScriptedService:
    """Keyword in the question -> answer; `long` is slow, `fail` raises."""

    def __init__(self) -> None:
        self.turns: dict[str, list[Exchange]] = {}
        self.titles: dict[str, str] = {}
        self.cancelled: list[str] = []
        self._stop: set[str] = set()
        self._attempts = 0

    async def ask(
        self, text: str, session_id: str | None, replace_turn: int | None
    ) -> AsyncGenerator[Event, None]:
        self._attempts += 1
        session_id = session_id or f"s{self._attempts}{int(time.time() * 1000):x}"
        if "fail" in text:
            await asyncio.sleep(0.1)
            raise EngineFailed("the model could not answer")
        yield Started(session_id)
        answer, override = self._answer(text)
        shown = ""
        reason = "moderated" if override else "stop"
        for word in [] if override else answer.split(" "):
            await asyncio.sleep(WORD_S)
            if session_id in self._stop:
                reason = "cancelled"
                break
            shown += word + " "
            yield Delta(word + " ")
        self._stop.discard(session_id)
        bot = answer if override else shown.strip()
        yield self._store(text, session_id, replace_turn, bot, reason, override)

    def _answer(self, text: str) -> tuple[str, Override | None]:
        if "long" in text:
            return " ".join(f"word{number}" for number in range(400)), None
        for key, answer in ANSWERS.items():
            if key in text:
                override = Override("input", "needs caution") if key == "moderated" else None
                return answer, override
        return DEFAULT.format(text=text, attempt=self._attempts), None

    def _store(
        self,
        text: str,
        session_id: str,
        replace_turn: int | None,
        bot: str,
        reason: str,
        override: Override | None,
    ) -> Exchange:
        turns = self.turns.setdefault(session_id, [])
        if replace_turn is not None:
            del turns[replace_turn - 1 :]
        cited = tuple(citation for citation in (REPORT, NOTE) if f"[{citation.number}]" in bot)
        exchange = Exchange(
            session_id, len(turns) + 1, text, bot, reason, time.time(), citations=cited, override=override
        )
        turns.append(exchange)
        self.titles.setdefault(session_id, text[:60])
        return exchange

    async def cancel(self, session_id: str) -> None:
        self.cancelled.append(session_id)
        self._stop.add(session_id)

    async def history(self, session_id: str) -> list[Exchange] | None:
        return self.turns.get(session_id)

    async def passage(self, session_id: str, turn: int, number: int) -> Citation | None:
        cited = self._turn(session_id, turn).citations
        return next((citation for citation in cited if citation.number == number), None)

    async def sessions(self, limit: int, cursor: str | None) -> SessionList:
        newest = sorted(self.turns, key=lambda session: -self.turns[session][-1].created_at)
        entries = [SessionEntry(name, self.titles[name], self.turns[name][-1].created_at) for name in newest]
        return SessionList(tuple(entries[:limit]))

    async def rename(self, session_id: str, title: str) -> None:
        self.titles[session_id] = title

    async def delete(self, session_id: str) -> None:
        self.turns.pop(session_id, None)

    async def feedback(self, session_id: str, turn: int, rating: Rating | None, comment: str) -> None:
        rated = replace(self._turn(session_id, turn), rating=rating, comment=comment)
        self.turns[session_id][turn - 1] = rated

    def _turn(self, session_id: str, turn: int) -> Exchange:
        turns = self.turns.get(session_id, [])
        if not 1 <= turn <= len(turns):
            raise SessionNotFound("no such turn")
        return turns[turn - 1]


STARTERS = (
    "What was Nordwind AG's revenue in 2025?",
    "How did margins develop?",
    "Which risks does the filing name?",
)


def create_app() -> FastAPI:
    """Return an application with one route of its own, and the page."""
    app = FastAPI(middleware=[Middleware(LocalGuard)])

    @app.get("/ping")
    def ping() -> dict[str, str]:
        return {"status": "healthy"}

    service = ScriptedService()

    @app.get("/cancelled")
    def cancelled() -> list[str]:
        return service.cancelled

    mount_page(app, service, About("demo", demonstration=True, starters=STARTERS))
    return app


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    uvicorn.run(create_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="debug")
