"""What stands before every route: who may ask, and what no answer goes out without.

The host listens on 127.0.0.1 only, which keeps other machines out, but not the web pages that the
user's own browser shows: a page elsewhere can post to a local port (CSRF), and one whose name
resolves to 127.0.0.1 on the second look can even read the answer (DNS rebinding). The first shows
in `Origin`, the second in `Host`; a request or websocket with a foreign one is refused.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local.errors import Forbidden, error_response

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_API_TYPES = (
    "application/json",
    "application/jsonlines",
    "application/vnd.amazon.eventstream",
    "text/event-stream",
)


class LocalGuard:
    """ASGI middleware that refuses foreign hosts and origins and sets the security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        problem = refusal(Headers(scope=scope), scope["server"][1])
        if problem is None:
            await self._app(scope, receive, _with_headers(send) if scope["type"] == "http" else send)
        elif scope["type"] == "websocket":
            # Before it is accepted, a closed websocket is a 403 to the handshake.
            await send({"type": "websocket.close", "code": 1008, "reason": problem})
        else:
            await error_response(Forbidden(problem))(scope, receive, _with_headers(send))


def refusal(headers: Headers, port: int) -> str | None:
    """Return why a request must be refused, None where it may pass."""
    ours = {f"{name}:{port}" for name in LOOPBACK_NAMES}
    if port == 80:
        ours |= set(LOOPBACK_NAMES)
    allowed = " or ".join(sorted(ours))
    hosts = headers.getlist("host")
    if len(hosts) != 1 or hosts[0].lower() not in ours:
        return f"this chatbot answers only as {allowed}; the request's Host is another one"
    origins = headers.getlist("origin")
    if any(origin.lower() not in {f"http://{host}" for host in ours} for origin in origins):
        return f"the request comes from a web page of another origin than http://{hosts[0].lower()}"
    return None


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            if headers.get("content-type", "").split(";")[0] in _API_TYPES:
                headers.setdefault("Cache-Control", "no-store")
                headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
            else:
                headers.setdefault("Content-Security-Policy", "frame-ancestors 'none'")
        await send(message)

    return send_with_headers
