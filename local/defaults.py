"""Defaults of `ock serve`: the built-in model, the sample library, the data folder."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from openchatkit.settings import Settings, SettingsError

_HERE = Path(__file__).resolve().parent
DEMO_MODEL = _HERE / "demo_model"
RERANKER = _HERE / "reranker"
RERANKER_MIN_SCORE = 0.36
"""With it the reranker alone declines four of five unanswerable questions of `natural_dev2`."""
LIBRARY = _HERE / "library"

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")

EXAMPLE_QUESTIONS = (
    "Who is going to be the next CEO of Corvane Hydraulics?",
    "Where did a fire destroy a warehouse of Ostrel Batteries?",
    "How many flights did Kestrin Airways cancel because of the strike?",
)
"""Questions that the sample library answers, and the demonstration model too."""


def data_directory() -> Path:
    """Return where this system keeps a user's application data, for OpenChatKit."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "openchatkit"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "openchatkit"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "openchatkit"


def is_demonstration(model: str) -> bool:
    """Tell whether a model is the small one that comes with the repository."""
    return Path(model).is_dir() and Path(model).resolve() == DEMO_MODEL


def check_model(model: str) -> None:
    """Find out in no time what loading would find out in many seconds.

    Raises:
        SettingsError: `model` is neither a directory with a model nor looks like a hub id.
    """
    directory = Path(model)
    if directory.is_dir():
        if not (directory / "config.json").is_file():
            raise SettingsError(f"model: {model} holds no model: there is no config.json in it")
    elif model == str(DEMO_MODEL):
        raise SettingsError("model: the demonstration model is missing here; name another one with --model")
    elif not _HUB_ID.fullmatch(model):
        raise SettingsError(f"model: there is no directory {model}, and it is not a Hugging Face id either")


def local_settings(
    *, model: str, documents: Sequence[Path], data: Path, sources: Path | None = None
) -> Settings:
    """Return the settings of a local chatbot.

    Args:
        model: a directory or a hub id.
        documents: folders and files to answer from; none means the sample library.
        data: folder of the conversations and of the documents' index.
        sources: a file that names further sources.
    """
    # A model of this size has one good answer to a question and many bad ones, and cannot tell which of
    # several sentences answers, or whether any does. The reranker can: it leaves one, or none (docs/LOG.md).
    small = {
        "temperature": 0.0,
        "retrieval_k": 1,
        "documents_window": 0,
        "reranker": str(RERANKER),
        "reranker_passages": 10,
        "reranker_min_score": RERANKER_MIN_SCORE,
    }
    fitted = small if is_demonstration(model) else {}
    return Settings.from_mapping(
        {
            "model": model,
            "documents": tuple(documents) or (LIBRARY,),
            "documents_cache": data / "documents",
            "sources": sources,
            "sqlite_path": data / "conversations.sqlite",
            **fitted,
        }
    )
