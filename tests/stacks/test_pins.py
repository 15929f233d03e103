import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stacks.pins import CONTEXT_FILE, pinned
from stacks.settings import DeploySettings, SettingsError
from tests.support.hub import FakeHub, serve_hub

CHAT, MODERATION = DeploySettings().chat_model, DeploySettings().moderation_model


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serve_hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        served.add_repo(CHAT, {"config.json": b"{}"})
        served.add_repo(MODERATION, {"config.json": b"{} "})
        yield served


def test_the_newest_commit_is_asked_for_once_and_kept(hub: FakeHub, tmp_path: Path) -> None:
    settings = pinned(DeploySettings(), {}, tmp_path)
    assert settings.chat_revision == hub.repos["model", CHAT].commit
    assert settings.moderation_revision == hub.repos["model", MODERATION].commit
    kept = json.loads((tmp_path / CONTEXT_FILE).read_text())
    assert kept == {
        f"openchatkit:revision:{CHAT}": settings.chat_revision,
        f"openchatkit:revision:{MODERATION}": settings.moderation_revision,
    }
    asked = len(hub.requests)
    hub.add_repo(CHAT, {"config.json": b'{"newer": true}'})
    assert pinned(DeploySettings(), kept, tmp_path) == settings
    assert len(hub.requests) == asked == 2


def test_what_the_settings_pin_is_not_asked_for(hub: FakeHub, tmp_path: Path) -> None:
    given = DeploySettings(chat_revision="b" * 40, moderation_revision="c" * 40)
    assert pinned(given, {}, tmp_path) == given
    assert hub.requests == []
    assert not (tmp_path / CONTEXT_FILE).exists()


@pytest.mark.usefixtures("hub")
def test_what_else_is_kept_stays(tmp_path: Path) -> None:
    (tmp_path / CONTEXT_FILE).write_text('{"availability-zones": ["a"]}')
    pinned(DeploySettings(), {}, tmp_path)
    kept = json.loads((tmp_path / CONTEXT_FILE).read_text())
    assert kept["availability-zones"] == ["a"]
    assert len(kept) == 3


@pytest.mark.usefixtures("hub")
def test_a_file_that_is_not_json_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / CONTEXT_FILE).write_text("oh")
    with pytest.raises(SettingsError, match="is not a JSON object"):
        pinned(DeploySettings(), {}, tmp_path)
    assert (tmp_path / CONTEXT_FILE).read_text() == "oh"


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("token", "hint"), [("", "answers 401 .*; set HF_TOKEN"), ("secret-token", "answers 404 ")]
)
def test_a_model_that_is_missing_or_hidden_is_told_and_the_token_is_not(
    token: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(SettingsError, match=rf"^moderation_revision: not set, .*{hint}") as caught:
        pinned(DeploySettings(moderation_model="missing/model"), {}, tmp_path)
    assert "secret-token" not in str(caught.value)
    assert not (tmp_path / CONTEXT_FILE).exists()


def test_the_token_reaches_the_hub(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    pinned(DeploySettings(), {}, tmp_path)
    assert {request.token for request in hub.requests} == {"secret-token"}


def test_a_commit_that_is_none_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos["model", CHAT] = dataclasses.replace(hub.repos["model", CHAT], commit="../../etc")
    with pytest.raises(SettingsError, match=r"^chat_revision: not set, and the hub names no commit"):
        pinned(DeploySettings(), {}, tmp_path)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "file:///etc"])
def test_a_hub_out_of_reach_is_told_in_one_line(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(SettingsError) as caught:
        pinned(DeploySettings(), {}, tmp_path)
    assert str(caught.value).startswith("chat_revision: ")
    assert "\n" not in str(caught.value)
