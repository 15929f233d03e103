"""What the local chatbot takes by default."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

import pytest

from local import defaults
from tests.local.live import LiveHost


@pytest.mark.skipif(sys.platform != "linux", reason="the folder is the one of Linux")
def test_the_data_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert defaults.data_directory() == tmp_path / "openchatkit"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert defaults.data_directory() == tmp_path / ".local" / "share" / "openchatkit"


def test_own_documents_replace_the_sample_library(tmp_path: Path) -> None:
    settings = defaults.local_settings(model="some/id", documents=[tmp_path], data=tmp_path)
    assert settings.documents == (tmp_path,)
    assert defaults.local_settings(model="some/id", documents=[], data=tmp_path).documents == (
        defaults.LIBRARY,
    )


def test_only_the_demonstration_model_is_greedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "DEMO_MODEL", tmp_path)
    assert defaults.is_demonstration(str(tmp_path))
    assert defaults.local_settings(model=str(tmp_path), documents=[], data=tmp_path).temperature == 0
    other = defaults.local_settings(model="some/id", documents=[], data=tmp_path)
    assert other.temperature > 0
    assert not defaults.is_demonstration("some/id")


EXAMPLE_ANSWERS = ("Matthias Oberlind", "Elbląg", "412")


@pytest.mark.parametrize(
    ("question", "fact"), list(zip(defaults.EXAMPLE_QUESTIONS, EXAMPLE_ANSWERS, strict=True))
)
def test_the_examples_are_answered_with_a_source(live_host: LiveHost, question: str, fact: str) -> None:
    body = json.dumps({"inputs": question}).encode()
    with urllib.request.urlopen(f"{live_host.url}/invocations", body, timeout=60) as response:
        reply = json.load(response)
    assert fact in reply["generated_text"]
    assert any(fact in citation["text"] for citation in reply["details"]["citations"])
