"""What Chainlit calls: a message, an edit, a stop, a page that comes back or goes.

The three websocket events that carry a turn replace Chainlit's own handlers. Its own ones write
"Task manually stopped." into the conversation, cannot stop an edited message, and name a thread
before there is a session.

Imported after `home.prepare` only: Chainlit reads its folder when it is imported.
"""

from __future__ import annotations

import logging
from typing import Any, cast

from chainlit.action import Action
from chainlit.config import config
from chainlit.context import context
from chainlit.data.base import BaseDataLayer
from chainlit.server import app as chainlit_app
from chainlit.server import sio
from chainlit.session import WebsocketSession
from chainlit.types import Starter, ThreadDict
from chainlit.user import User
from fastapi import FastAPI
from starlette.datastructures import Headers

from local.page import render
from local.page.conversations import USER, Conversations
from local.page.ports import About
from local.page.turns import Ask, Turns, Window

logging.getLogger("chainlit").setLevel(logging.ERROR)


def connect(turns: Turns, about: About) -> FastAPI:
    """Register everything for `turns` and return Chainlit's application."""
    code = config.code

    async def local_user(headers: Headers) -> User:
        return User(identifier=USER)

    async def starters(user: User | None, language: str | None = None) -> list[Starter]:
        return [Starter(label=question, message=question) for question in about.starters]

    async def resumed(thread: ThreadDict) -> None:
        await _offer_regenerate(turns, thread)

    async def left() -> None:
        session = context.session
        window = _window(session)
        if isinstance(session, WebsocketSession) and session.to_clear:  # a new conversation was begun
            await turns.close(window)
        else:
            turns.leave(window)

    async def regenerate(action: Action) -> None:
        human, run = str(action.payload["human"]), str(action.payload["run"])
        await turns.regenerate(_window(context.session), human, run)

    def data_layer() -> BaseDataLayer:
        return Conversations(turns)

    code.header_auth_callback = local_user
    code.set_starters = starters
    code.on_chat_resume = resumed
    code.on_chat_end = left
    code.action_callbacks["regenerate"] = regenerate
    code.data_layer = data_layer
    _listen(turns)
    return chainlit_app


def _listen(turns: Turns) -> None:
    async def client_message(sid: str, payload: dict[str, Any]) -> None:
        window = _window(WebsocketSession.require(sid))
        message = payload["message"]
        ask = Ask(str(message["output"]), str(message["id"]), _session_id(window))
        await _start(turns, window, ask)

    async def edit_message(sid: str, payload: dict[str, Any]) -> None:
        window = _window(WebsocketSession.require(sid))
        message_id, text = str(payload["message"]["id"]), str(payload["message"]["output"])
        place = turns.place(message_id)
        await window.emit("update_message", payload["message"])
        ask = Ask(text, message_id, _session_id(window), place[1] if place else None)
        await _start(turns, window, ask)

    async def stop(sid: str) -> None:
        if session := WebsocketSession.get(sid):
            await turns.stop(_window(session))

    chainlit_connected = sio.handlers["/"]["connection_successful"]

    async def connection_successful(sid: str) -> None:
        await chainlit_connected(sid)
        await turns.come_back(_window(WebsocketSession.require(sid)))

    for handler in (connection_successful, client_message, edit_message, stop):
        sio.on(handler.__name__, handler)


def _window(session: object) -> Window:
    """A websocket session. Chainlit's types say that `emit` returns None; it returns the sending."""
    return cast("Window", session)


def _session_id(window: Window) -> str | None:
    """The conversation of a page, None before its first answer."""
    return window.thread_id if window.has_first_interaction else None


async def _start(turns: Turns, window: Window, ask: Ask) -> None:
    if not turns.start(window, ask):
        toast = {"message": "The answer before is still being written.", "type": "warning"}
        await window.emit("toast", toast)


async def _offer_regenerate(turns: Turns, thread: ThreadDict) -> None:
    if not thread["steps"]:
        return
    if place := render.parse_step_id(thread["steps"][-1]["id"]):
        human, run, bot = (render.step_id(*place, part) for part in ("human", "run", "bot"))
        await turns.offer_regenerate(_window(context.session), human, run, bot)
