"""A turn on the screen: what the service streams, drawn step by step; stop, edit and regenerate.

One `Turns` object serves all open pages. A page answers one question at a time. A page that closes
while its answer is being written stops it, so that the engine is free; what was shown is stored. A
page that only lost its connection comes back within moments and goes on where it was.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from local.page import render
from local.page.ports import Delta, Exchange, PageService, Started
from openchatkit.errors import OpenChatKitError

logger = logging.getLogger(__name__)

MAX_PLACES = 8_192
"""Steps on open pages whose turn is remembered; older ones are found after a reload."""
AWAY_S = 3.0
"""How long a page may be without its connection before its answer is stopped. Chainlit's front end
drops and renews its connection by itself, when a new conversation gets its address for example."""
STOP_TIMEOUT_S = 10.0
"""How long a cancelled answer may take to end by itself before its task is dropped."""

Emit = Callable[[str, Any], Awaitable[Any]]
"""Sends one event to a page."""


class Window(Protocol):
    """An open page: Chainlit's websocket session, as far as it matters here."""

    id: str
    thread_id: str
    has_first_interaction: bool
    emit: Emit


@dataclass(frozen=True, slots=True)
class Ask:
    """A question from a page. `message_id` is its step there."""

    text: str
    message_id: str
    session_id: str | None
    replace_turn: int | None = None


@dataclass(slots=True)
class _Running:
    """An answer that is being written."""

    ask: Ask
    session_id: str | None
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    bot_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started_at: float = field(default_factory=time.time)
    shown: str = ""
    drawn: str = ""
    stopping: bool = False
    task: asyncio.Task[None] | None = None


class Turns:
    """The answers of all open pages."""

    def __init__(self, service: PageService) -> None:
        self.service = service
        self._running: dict[str, _Running] = {}
        self._places: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self._regenerate: dict[str, dict[str, Any]] = {}
        self._away: dict[str, float] = {}
        self._waiting: set[asyncio.Task[None]] = set()

    def place(self, step_id: str) -> tuple[str, int] | None:
        """Return session and turn of a step, None for a turn that was never stored."""
        return self._places.get(step_id) or render.parse_step_id(step_id)

    def start(self, window: Window, ask: Ask) -> bool:
        """Begin to answer; False while this page's answer before is still being written."""
        if window.id in self._running:
            return False
        running = _Running(ask=ask, session_id=ask.session_id)
        self._running[window.id] = running
        running.task = asyncio.create_task(self._answer(window, running))
        return True

    async def stop(self, window: Window) -> None:
        """Stop the answer of a page, if there is one."""
        if running := self._running.get(window.id):
            await self._stop(running)

    async def _stop(self, running: _Running) -> None:
        if running.stopping:
            return
        running.stopping = True
        if running.session_id is None:
            _cancel(running)
            return
        self._in_background(self._drop_late(running))
        try:
            await self.service.cancel(running.session_id)
        except OpenChatKitError:
            _cancel(running)

    def leave(self, window: Window) -> None:
        """Stop the answer of a page whose connection is gone, unless it is back soon."""
        since = self._away[window.id] = time.monotonic()
        self._in_background(self._stop_if_away(window, since))

    async def come_back(self, window: Window) -> None:
        """Show a page that is connected again the answer that went on without it."""
        self._away.pop(window.id, None)
        if running := self._running.get(window.id):
            await window.emit("task_start", {})
            if running.session_id:
                await _name_conversation(window, running.session_id, running.run_id)
            if running.drawn:
                await window.emit("stream_start", _streaming_step(running, running.drawn))

    async def settled(self, session_id: str) -> None:
        """Wait until the answer of a page that was left is stored: a reload comes right after."""
        for window_id, running in list(self._running.items()):
            if running.session_id == session_id and window_id in self._away:
                await self._stop(running)
        tasks = [
            running.task
            for running in self._running.values()
            if running.session_id == session_id and running.stopping and running.task
        ]
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_TIMEOUT_S)

    async def regenerate(self, window: Window, human_id: str, run_id: str) -> None:
        """Answer the newest question again: the new answer takes the old one's place."""
        place = self.place(human_id)
        history = await self.service.history(place[0]) if place else None
        newest = history[-1] if history else None
        if newest is None or place != (newest.session_id, newest.turn):
            text = "Only the newest answer can be given again. Reload the page to see it."
            await window.emit("toast", {"message": text, "type": "warning"})
        elif window.id not in self._running:
            await window.emit("delete_message", {"id": run_id})
            self.start(window, Ask(newest.human, human_id, newest.session_id, newest.turn))

    async def offer_regenerate(self, window: Window, human_id: str, run_id: str, bot_id: str) -> None:
        """Put the button below the newest answer, and take it away from the one before."""
        await self._withdraw_regenerate(window)
        action = {
            "id": str(uuid.uuid4()),
            "name": "regenerate",
            "label": "",
            "tooltip": "Regenerate",
            "icon": "refresh-cw",
            "payload": {"human": human_id, "run": run_id},
            "forId": bot_id,
        }
        self._regenerate[window.id] = action
        await window.emit("action", action)

    async def close(self, window: Window) -> None:
        """Stop the answer of a page that is gone, and drop what is kept for it."""
        self._away.pop(window.id, None)
        self._regenerate.pop(window.id, None)
        await self.stop(window)

    async def _withdraw_regenerate(self, window: Window) -> None:
        if action := self._regenerate.pop(window.id, None):
            await window.emit("remove_action", action)

    async def _answer(self, window: Window, running: _Running) -> None:
        await window.emit("task_start", {})
        await self._withdraw_regenerate(window)
        run = render.run_step(running.run_id, running.ask.message_id, running.started_at, ended=False)
        await window.emit("new_message", run)
        try:
            await self._follow(window, running)
        except asyncio.CancelledError:
            if not running.stopping:
                raise
            await self._fail(window, running, "Stopped before the answer began.")
        except OpenChatKitError as error:
            await self._fail(window, running, f"{error.message} ({error.code})")
        except Exception as error:  # noqa: BLE001 - a defect of ours: the page must not wait for ever
            # The type alone: the text of an exception may quote the question.
            logger.warning("a turn of the page failed with %s", type(error).__name__)
            await self._fail(
                window, running, "Something went wrong here. The question was not lost: send it again."
            )
        finally:
            del self._running[window.id]
            await window.emit("update_message", run | {"end": render.iso_time(time.time())})
            await window.emit("task_end", {})

    async def _follow(self, window: Window, running: _Running) -> None:
        ask = running.ask
        async with aclosing(self.service.ask(ask.text, ask.session_id, ask.replace_turn)) as events:
            async for event in events:
                if isinstance(event, Started):
                    await self._begin(window, running, event.session_id)
                elif isinstance(event, Delta):
                    await self._draw(window, running, event.text)
                else:
                    await self._finish(window, running, event)

    async def _begin(self, window: Window, running: _Running, session_id: str) -> None:
        running.session_id = session_id
        window.thread_id = session_id
        window.has_first_interaction = True
        await _name_conversation(window, session_id, running.run_id)

    async def _draw(self, window: Window, running: _Running, text: str) -> None:
        running.shown += text
        safe = render.safe_markdown(running.shown)
        if not running.drawn:
            await window.emit("stream_start", _streaming_step(running, safe))
        elif safe.startswith(running.drawn):
            await _send_token(window, running, safe[len(running.drawn) :], whole=False)
        else:  # what came later changed how the text before is to be read
            await _send_token(window, running, safe, whole=True)
        running.drawn = safe

    async def _finish(self, window: Window, running: _Running, exchange: Exchange) -> None:
        human_id, run_id = running.ask.message_id, running.run_id
        for step in (human_id, run_id):
            self._remember(step, exchange)
        if exchange.override:
            if running.drawn:
                await window.emit("delete_message", {"id": running.bot_id})
                running.bot_id = str(uuid.uuid4())
            note = render.notice_step(str(uuid.uuid4()), run_id, exchange.override, exchange.created_at)
            await window.emit("new_message", note)
        text = render.answer_markdown(exchange)
        await window.emit("new_message", render.bot_step(running.bot_id, run_id, text, exchange.created_at))
        await self.offer_regenerate(window, human_id, run_id, running.bot_id)
        # A new value makes the page read its history list again: the conversation is stored now.
        await _name_conversation(window, exchange.session_id, f"{run_id}.stored")

    async def _fail(self, window: Window, running: _Running, text: str) -> None:
        if running.drawn:
            await window.emit("delete_message", {"id": running.bot_id})
        step = render.error_step(str(uuid.uuid4()), running.run_id, text, time.time())
        await window.emit("new_message", step)

    def _remember(self, step_id: str, exchange: Exchange) -> None:
        self._places[step_id] = (exchange.session_id, exchange.turn)
        while len(self._places) > MAX_PLACES:
            self._places.popitem(last=False)

    def _in_background(self, waiting: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(waiting)
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _stop_if_away(self, window: Window, since: float) -> None:
        await asyncio.sleep(AWAY_S)
        if self._away.get(window.id) == since:
            await self.close(window)

    async def _drop_late(self, running: _Running) -> None:
        await asyncio.sleep(STOP_TIMEOUT_S)
        _cancel(running)


def _streaming_step(running: _Running, text: str) -> dict[str, Any]:
    return render.bot_step(running.bot_id, running.run_id, text, running.started_at, streaming=True)


def _cancel(running: _Running) -> None:
    if running.task is not None:
        running.task.cancel()


async def _name_conversation(window: Window, session_id: str, moment: str) -> None:
    """Give the page its address, and make its stop button appear."""
    await window.emit("first_interaction", {"interaction": moment, "thread_id": session_id})


async def _send_token(window: Window, running: _Running, text: str, *, whole: bool) -> None:
    if text:
        token = {"id": running.bot_id, "token": text, "isSequence": whole, "isInput": False}
        await window.emit("stream_token", token)
