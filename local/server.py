"""uvicorn for the local host: a port taken first, a host that answers while it loads, a quick end.

The port is bound before anything is loaded, so that a taken one is told at once. Until the app is
there, `/ping` answers 503. On SIGINT or SIGTERM running answers are closed, with a last line that
says so, and the process ends within two seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import uvicorn
from fastapi import FastAPI
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from local import runtime_api
from local.errors import Starting, error_response
from local.guard import LocalGuard

ADDRESS = "127.0.0.1"
GRACE_S = 1
"""How long open connections may take to end before they are cut."""

_T = TypeVar("_T")


class PortTaken(Exception):
    """Another program listens on the port."""

    def __init__(self, port: int) -> None:
        super().__init__(
            f"port {port} of {ADDRESS} is in use, perhaps by a chatbot that already runs; "
            f"choose another one: ock serve --port {port + 1 if port < 65535 else 8080} "
            f"(or make run PORT={port + 1 if port < 65535 else 8080})"
        )


def bind(port: int) -> socket.socket:
    """Return a socket bound to a port of 127.0.0.1; 0 takes a free one.

    Raises:
        PortTaken: the port is in use.
        PermissionError: the port is reserved to the system.
    """
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As asyncio does it: without this a port stays taken for a minute after its host ended.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((ADDRESS, port))
        # From here on a second host finds the port taken, and an early client is kept waiting.
        taken.listen(128)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(port) from error
        raise
    return taken


class Doorway:
    """The ASGI app that listens from the first moment: 503 until the chatbot's app is there."""

    def __init__(self) -> None:
        self.app: FastAPI | None = None
        self._starting = LocalGuard(_answer_starting)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand over to the app, once it is there."""
        app: ASGIApp = self.app or self._starting
        await app(scope, receive, send)


async def _answer_starting(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1013})
        return
    loading = Starting("the chatbot is still loading; GET /ping tells when it is ready")
    response: Response
    if scope["path"] == "/ping":
        response = JSONResponse({"model": {"status": "Loading"}}, 503)
    elif scope["path"].startswith("/endpoints/"):
        response = runtime_api.error("ServiceUnavailable", 503, loading.message)
    else:
        response = error_response(loading)
    response.headers["Retry-After"] = "1"
    await response(scope, receive, send)


class HostServer(uvicorn.Server):
    """uvicorn's server, ended by a signal without a trace and with its answers closed first."""

    def __init__(self, doorway: Doorway) -> None:
        super().__init__(
            uvicorn.Config(
                doorway,
                lifespan="off",
                # Neither a path with its query nor an exception's message belongs in a log here.
                access_log=False,
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
                timeout_keep_alive=30,
            )
        )
        self._doorway = doorway

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close running answers, then the connections."""
        if self._doorway.app is not None:
            self._doorway.app.state.stopping.set()
        # What uvicorn has to say about connections that it cuts now is what was asked for.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as the wish to end; unlike uvicorn, do not raise them again."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        handled = (signal.SIGINT, signal.SIGTERM) if in_main_thread else ()
        before = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


async def run_host(
    listening: socket.socket, load: Callable[[], FastAPI], *, on_ready: Callable[[], None]
) -> bool:
    """Serve on a bound socket until a signal comes.

    Args:
        listening: see `bind`.
        load: returns the app; it may block for as long as it likes, in a thread of its own.
        on_ready: called when the app answers.

    Returns:
        False where the signal came while `load` was still at work, which is abandoned then.
    """
    doorway = Doorway()
    server = HostServer(doorway)
    serving = asyncio.create_task(server.serve([listening]))
    loading = asyncio.create_task(in_daemon_thread(load))
    await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        loading.cancel()
        return False
    try:
        app = loading.result()
    except BaseException:
        server.should_exit = True
        await serving
        raise
    async with app.router.lifespan_context(app):
        doorway.app = app
        on_ready()
        await serving
    return True


async def in_daemon_thread(work: Callable[[], _T]) -> _T:
    """Run `work` in a thread that does not keep the process alive, unlike those of an executor."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
        if outcome.cancelled():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, problem = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is awaited
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=run, name="loading", daemon=True).start()
    return await outcome
