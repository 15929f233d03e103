"""The composition: every setting that chooses a class builds one that works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from openchatkit import wire
from openchatkit.build import Progress, build_service
from openchatkit.errors import EngineFailed, ModerationUnavailable, StoreUnavailable
from openchatkit.service import OpenChatKitService
from openchatkit.settings import Settings, SettingsError
from tests.engines.models import tiny_model, tiny_tokenizer

Build = Callable[..., Awaitable[OpenChatKitService]]


def save_tiny(architecture: str, path: Path) -> str:
    tiny_model(architecture).save_pretrained(str(path))
    tiny_tokenizer().save_pretrained(str(path))
    return str(path)


@pytest.fixture(scope="module")
def neox(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny("gpt_neox", tmp_path_factory.mktemp("neox"))


@pytest.fixture
async def build(neox: str, tmp_path: Path) -> AsyncIterator[Build]:
    built: list[OpenChatKitService] = []

    async def build(progress: Progress | None = None, **values: Any) -> OpenChatKitService:
        settings = Settings.from_mapping(
            {
                "model": neox,
                "sqlite_path": tmp_path / "conversations.sqlite",
                "preamble": "Answer.",
                "max_new_tokens": 8,
                "moderation_may_be_disabled": True,
                **values,
            }
        )
        built.append(await asyncio.to_thread(build_service, settings, progress))
        return built[-1]

    yield build
    for service in built:
        await service.close()


class Heard(Progress):
    def __init__(self) -> None:
        self.steps: list[str] = []
        self.counts: list[tuple[int, int]] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def documents(self, done: int, total: int) -> None:
        self.counts.append((done, total))


def ask(text: str, **fields: Any) -> wire.ChatRequest:
    # The tiny model talks noise; what moderation thinks of noise is not the matter here.
    return wire.ChatRequest(inputs=text, moderation=wire.ModerationOptions(output=False), **fields)


async def test_documents_are_found_and_progress_is_heard(build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "orla.md").write_text("# Orla Freight\n\nOrla Freight moved to Cork in 2024.\n")
    heard = Heard()
    service = await build(heard, documents=(folder,), documents_cache=tmp_path / "cache")
    reply = await service.reply(ask("Where did Orla Freight move to?"))
    assert reply.details.retrieval.passages == 1
    assert reply.details.moderation.input is not None
    assert heard.steps
    assert heard.counts[-1][0] == heard.counts[-1][1] > 0


async def test_the_guard_turns_other_questions_away(build: Build) -> None:
    service = await build(domain_description="Questions about companies, their revenue and their shares.")
    reply = await service.reply(ask("How do I bake sourdough bread at home?"))
    assert reply.details.finish_reason == "out_of_domain"
    assert (await service.reply(ask("What was the revenue of the company?"))).details.finish_reason in (
        "stop",
        "length",
    )


async def test_a_causal_model_judges(build: Build, tmp_path: Path) -> None:
    judge = save_tiny("gptj", tmp_path / "judge")
    # The label frame is longer than the tiny model's context: a judge that cannot judge blocks.
    service = await build(moderation="causal_lm", moderation_model=judge)
    request = wire.ModerateRequest(requestType="MODERATE", inputs="Hello")
    with pytest.raises(ModerationUnavailable):
        await service.moderate(request)


async def test_what_is_missing_is_named(build: Build, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"documents: .*nowhere"):
        await build(documents=(tmp_path / "nowhere",))
    with pytest.raises(SettingsError, match="moderation_policy"):
        await build(moderation_policy=tmp_path / "no.yaml")
    with pytest.raises(EngineFailed):
        await build(model=str(tmp_path / "no-model"))
    (tmp_path / "broken.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreUnavailable):
        await build(sqlite_path=tmp_path / "broken.sqlite")


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
async def test_an_engine_that_is_not_installed_is_told(build: Build) -> None:
    with pytest.raises(SettingsError, match="engine: vllm is not installed"):
        await build(engine="vllm")
