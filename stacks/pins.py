"""Pins models to a commit: the newest one of the hub, asked for once and kept in `cdk.context.json`.

A deployment names a commit, so that the same files are served however often it is repeated. Where the
settings name none, the first synthesis asks the hub, as the CDK asks an account for its zones, and keeps the
answer beside them; later ones read it there and need no network. Remove the entry to move on.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stacks.settings import DeploySettings, SettingsError

CONTEXT_FILE = "cdk.context.json"
KEY = "openchatkit:revision:{model}"
HUB_ENV, TOKEN_ENV = "HF_ENDPOINT", "HF_TOKEN"
DEFAULT_HUB = "https://huggingface.co"
TIMEOUT_S = 10
MAX_REPLY_BYTES = 5_000_000
COMMIT = re.compile(r"[0-9a-f]{40}")


def pinned(settings: DeploySettings, context: Mapping[str, Any], folder: Path) -> DeploySettings:
    """Return the settings with a commit for each model.

    Args:
        settings: those of the context, perhaps without commits.
        context: with what earlier runs have kept.
        folder: where `cdk.context.json` is.

    Raises:
        SettingsError: a model has no commit and the hub does not tell one.
    """
    found: dict[str, str] = {}
    update: dict[str, str] = {}
    for role in ("chat", "moderation"):
        if settings.revision(role):
            continue
        key = KEY.format(model=settings.model(role))
        known = context.get(key)
        if not (isinstance(known, str) and COMMIT.fullmatch(known)):
            known = found[key] = newest(settings.model(role), setting=f"{role}_revision")
        update[f"{role}_revision"] = known
    if found:
        _keep(folder / CONTEXT_FILE, found)
    return DeploySettings.from_context({**settings.model_dump(), **update})


def newest(model: str, *, setting: str) -> str:
    """Return the newest commit of a model's main branch.

    Raises:
        SettingsError: the hub cannot be reached, knows no such model or wants a token. It begins with
            `setting`, the one to set instead.
    """
    hub = os.environ.get(HUB_ENV, DEFAULT_HUB).rstrip("/")
    if not hub.startswith(("https://", "http://")):
        raise SettingsError(f"{setting}: {HUB_ENV} is no address of a hub")
    request = urllib.request.Request(f"{hub}/api/models/{model}/revision/main")  # noqa: S310 - checked above
    token = os.environ.get(TOKEN_ENV)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310 - checked above
            answer = json.loads(reply.read(MAX_REPLY_BYTES))
    except urllib.error.HTTPError as error:
        error.close()
        hint = f"; set {TOKEN_ENV}" if error.code in (401, 403) else ""
        raise SettingsError(
            f"{setting}: not set, and the hub answers {error.code} for {model}{hint}"
        ) from None
    except (OSError, ValueError):
        raise SettingsError(
            f"{setting}: not set, and {hub} does not say which commit of {model} is the newest; set it"
        ) from None
    commit = answer.get("sha") if isinstance(answer, dict) else None
    if not (isinstance(commit, str) and COMMIT.fullmatch(commit)):
        raise SettingsError(f"{setting}: not set, and the hub names no commit of {model}; set it")
    return commit


def _keep(path: Path, found: Mapping[str, str]) -> None:
    try:
        kept = json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        kept = None
    if not isinstance(kept, dict):
        raise SettingsError(f"chat_revision: {path} is not a JSON object")
    path.write_text(json.dumps({**kept, **found}, indent=2, sort_keys=True) + "\n")
