"""GET /passages/{session}/{turn}/{number}: the text behind an `[n]`.

As JSON for the side panel, as a plain page for a new tab. The text is escaped: a document never
brings markup of its own.
"""

from __future__ import annotations

import html
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Header, Path, Response
from fastapi.responses import HTMLResponse, JSONResponse

from local.page.ports import Citation, PageService
from local.page.render import PASSAGES
from openchatkit.errors import OpenChatKitError, SessionNotFound

GONE = "This passage is no longer in the library."
_POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"


def router(service: PageService) -> APIRouter:
    """Return the route for `service`. It is part of the page, not of the API."""
    routes = APIRouter()

    @routes.get(PASSAGES + "/{session_id}/{turn}/{number}", include_in_schema=False)
    async def passage(
        session_id: Annotated[str, Path(max_length=128, pattern=r"^[A-Za-z0-9-]+$")],
        turn: Annotated[int, Path(ge=1, le=2**31)],
        number: Annotated[int, Path(ge=1, le=999)],
        accept: Annotated[str, Header()] = "",
    ) -> Response:
        try:
            citation = await service.passage(session_id, turn, number)
            if citation is None:
                raise SessionNotFound("no such passage")
        except OpenChatKitError as error:
            body = {"error": f"{error.code}: {error.message}", "code": error.status}
            return JSONResponse(body, error.status)
        fields = passage_fields(citation)
        if "application/json" in accept:
            return JSONResponse(fields, headers={"vary": "accept", "cache-control": "no-store"})
        headers = {"vary": "accept", "content-security-policy": _POLICY, "referrer-policy": "no-referrer"}
        return HTMLResponse(passage_page(fields), headers=headers)

    return routes


def passage_fields(citation: Citation) -> dict[str, Any]:
    """Return what the side panel shows. A link is given for the web's addresses only."""
    url = citation.url or ""
    return {
        "number": citation.number,
        "title": citation.title,
        "source": citation.source,
        "place": citation.place,
        "date": citation.date,
        "url": url if urlsplit(url).scheme in ("http", "https") else None,
        "text": citation.text if citation.text is not None else GONE,
    }


def passage_page(fields: dict[str, Any]) -> str:
    """Return the passage as a page of its own."""
    safe = {key: html.escape(str(value)) if value is not None else "" for key, value in fields.items()}
    facts = " · ".join(safe[key] for key in ("place", "date", "source") if safe[key])
    link = (
        f'<p><a rel="noopener noreferrer" href="{safe["url"]}">{safe["url"]}</a></p>' if safe["url"] else ""
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{safe["title"]}</title><link rel="icon" href="/favicon">'
        '<link rel="stylesheet" href="/public/page.css"></head>'
        f'<body class="passage-page"><main><h1>{safe["title"]}</h1><p class="passage-facts">{facts}</p>'
        f'<p class="passage-text">{safe["text"]}</p>{link}</main></body></html>'
    )
