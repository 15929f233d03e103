"""What stands between the browser and Chainlit: known paths, the one user, no outside address.

The page has no login: every request that gets here is the local user's. That other sites' requests
do not get here, websockets included, is the work of `local.guard` in front of the whole host.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATHS = re.compile(
    r"/|/thread(/[A-Za-z0-9-]*)?|/(assets|public|avatars)/.+|/favicon|/logo|/user|/auth/config|/feedback"
    r"|/set-session-cookie|/project/(translations|settings|threads|thread|thread/[A-Za-z0-9-]+|action)"
    r"|/ws/socket\.io/?"
)
"""What of Chainlit the page uses. Uploads, tools, sharing and login are not among it."""

COOKIE = "access_token"
"""Name of Chainlit's login cookie."""


class PageGuard:
    """Wraps Chainlit's application; see the module."""

    def __init__(self, app: ASGIApp, token: Callable[[], str], page: Callable[[], str]) -> None:
        """Guard `app`.

        Args:
            token: returns a fresh login token of the local user.
            page: returns the index page, whose scripts are the only inline ones that may run.
        """
        self._app = app
        self._token = token
        self._policy = content_security_policy(page())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on as the local user."""
        if scope["type"] not in ("http", "websocket"):
            return
        if not PATHS.fullmatch(scope["path"]):
            await _refuse(scope, receive, send)
        else:
            scope = dict(scope, headers=_as_local_user(scope["headers"], self._token()))
            await self._app(scope, receive, self._with_policy(send))

    def _with_policy(self, send: Send) -> Send:
        async def sender(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = self._policy
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "no-referrer"
            await send(message)

        return sender


def content_security_policy(page: str) -> str:
    """Return a policy under which a page reaches this host only, whatever an answer's Markdown holds."""
    hashes = " ".join(_hashes(re.findall(r"<script>(.*?)</script>", page, re.DOTALL)))
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' {hashes}".rstrip(),
            "style-src 'self' 'unsafe-inline'",  # the front end sets styles on its elements
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _hashes(scripts: Iterable[str]) -> Iterable[str]:
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        yield f"'sha256-{digest}'"


def _as_local_user(headers: Iterable[tuple[bytes, bytes]], token: str) -> list[tuple[bytes, bytes]]:
    """Return the headers with the login cookie of the local user, and none that the browser sent."""
    kept: list[tuple[bytes, bytes]] = []
    cookies = [f"{COOKIE}={token}"]
    for name, value in headers:
        if name.lower() == b"cookie":
            parts = (part.strip() for part in value.decode("latin-1").split(";"))
            cookies += [part for part in parts if part and not part.startswith(COOKIE)]
        elif name.lower() != b"authorization":
            kept.append((name, value))
    return [*kept, (b"cookie", "; ".join(cookies).encode("latin-1"))]


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        body = {"error": "not_found: there is nothing here", "code": 404}
        await JSONResponse(body, 404)(scope, receive, send)
