"""The folder that Chainlit lives in: a temporary one, made at start from `assets/`, gone at the end.

Chainlit writes its settings, translations and uploads below `CHAINLIT_APP_ROOT` (by default the
folder of whoever starts it) when its modules are imported. So `prepare` comes before the first
import of it. The front end is the one of the package, served by symbolic link, behind an index page
of ours: the package's own asks Google and jsDelivr for fonts and styles.
"""

from __future__ import annotations

import atexit
import html
import importlib.util
import json
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).with_name("assets")

PREFIX = "openchatkit-page-"
"""Of the folder's name; the number of the process follows."""

_OUTSIDE_LINK = re.compile(r"<link\b[^>]*https?://[^>]*>", re.DOTALL)


class PageError(RuntimeError):
    """The page cannot be set up: Chainlit is missing, or not the version this was written for."""


def prepare(note: str) -> Path:
    """Make the folder, point Chainlit at it and return it.

    Args:
        note: one line of Markdown about the model, shown below the composer.

    Raises:
        PageError: Chainlit is not installed or its front end has changed.
    """
    _sweep(Path(tempfile.gettempdir()))
    root = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    package = _package()
    shutil.copytree(ASSETS / "public", root / "public")
    translations = root / ".chainlit" / "translations"
    translations.mkdir(parents=True)
    shutil.copyfile(ASSETS / "config.toml", root / ".chainlit" / "config.toml")
    shutil.copyfile(ASSETS / "help.md", root / "chainlit_en-US.md")
    (translations / "en-US.json").write_text(json.dumps(_translation(package, note)), encoding="utf-8")
    _build(package, root / "build", note)
    os.environ.update(
        CHAINLIT_APP_ROOT=str(root),
        CHAINLIT_AUTH_SECRET=secrets.token_hex(32),
        CHAINLIT_ENV_FILE=os.devnull,  # else it reads .env of the folder it is started in
        CHAINLIT_ROOT_PATH="",
        TRACELOOP_TELEMETRY="false",
    )
    return root


def _sweep(place: Path) -> None:
    """Remove the folders of processes that were killed: no exit handler of theirs has run."""
    for folder in place.glob(f"{PREFIX}*-*"):
        number = folder.name.removeprefix(PREFIX).split("-")[0]
        if number.isdecimal() and not _alive(int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is no question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _package() -> Path:
    spec = importlib.util.find_spec("chainlit")
    if spec is None or spec.origin is None:
        raise PageError("the page needs the package chainlit: see requirements/local.txt")
    return Path(spec.origin).parent


def _translation(package: Path, note: str) -> dict[str, Any]:
    """Chainlit's English texts with ours in their place."""
    texts: dict[str, Any] = json.loads((package / "translations" / "en-US.json").read_text("utf-8"))
    ours: dict[str, Any] = json.loads((ASSETS / "texts.json").read_text("utf-8"))
    _merge(texts, ours)
    texts["chat"]["watermark"] = note
    return texts


def _merge(texts: dict[str, Any], ours: dict[str, Any]) -> None:
    for key, value in ours.items():
        if isinstance(value, dict):
            _merge(texts[key], value)
        else:
            texts[key] = value


def _build(package: Path, build: Path, note: str) -> None:
    """Lay out the front end: an index page that asks nobody outside, and the package's scripts."""
    dist = package / "frontend" / "dist"
    try:
        index = (dist / "index.html").read_text("utf-8")
    except OSError as error:
        raise PageError(f"no front end in {dist}") from error
    index = _OUTSIDE_LINK.sub("", index)
    if re.search(r"(?:href|src)\s*=\s*[\"']?(?:https?:)?//", index):
        raise PageError("Chainlit's index page has outside addresses that are not known here")
    meta = f'<meta name="openchatkit-note" content="{html.escape(note, quote=True)}" />\n  </head>'
    build.mkdir()
    (build / "index.html").write_text(index.replace("</head>", meta), encoding="utf-8")
    try:
        (build / "assets").symlink_to(dist / "assets", target_is_directory=True)
    except OSError:  # a file system or a user that may not make links
        shutil.copytree(dist / "assets", build / "assets", ignore=shutil.ignore_patterns("*.map"))
