"""`mount_page`: puts the page at `/` of an application, behind the application's own routes.

Chainlit keeps its state in modules and environment variables, so a process has one page: mounting
again points it to the new service. It is imported here, late, because it reads its folder then.
"""

from __future__ import annotations

from fastapi import FastAPI

from local.page import home
from local.page.passages import router
from local.page.ports import About, PageService
from local.page.render import escaped
from local.page.turns import Turns

_mounted = False


def mount_page(app: FastAPI, service: PageService, about: About) -> None:
    """Add the page to `app`. Call it last: every path that `app` does not know goes to the page.

    Raises:
        PageError: Chainlit is not installed, or not the version this was written for.
    """
    global _mounted
    if not _mounted:
        home.prepare(note(about))
        _mounted = True
    from chainlit import data as chainlit_data
    from chainlit.auth import create_jwt
    from chainlit.server import get_html_template
    from chainlit.user import User

    from local.page import handlers
    from local.page.conversations import USER
    from local.page.guard import PageGuard

    chainlit_app = handlers.connect(Turns(service), about)
    chainlit_data._data_layer_initialized = False
    chainlit_data._data_layer = None
    app.include_router(router(service))
    guard = PageGuard(
        chainlit_app,
        token=lambda: create_jwt(User(identifier=USER)),
        page=lambda: str(get_html_template("")),  # type: ignore[no-untyped-call]
    )
    app.mount("/", guard, name="page")


def note(about: About) -> str:
    """Return the line about the model that the page shows below the composer."""
    if about.demonstration:
        return (
            "Small demonstration model: it quotes sentences from the documents and knows nothing else. "
            "For a real one: `ock serve --model DIRECTORY_OR_HUB_ID`"
        )
    return f"Answers by {escaped(about.model)}. It can be wrong: check the sources."
