"""Fixtures of the local host's tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest

from local.defaults import DEMO_MODEL, local_settings
from local.host import create_app
from openchatkit.build import build_service
from openchatkit.invocations import Answer, Invocations, StreamedAnswer
from tests.engines.models import tiny_model, tiny_tokenizer
from tests.local.live import FakeInvocations, LiveHost, Payload, serving


class _Current:
    """Hands over to the fake of the test that runs, so that one host serves all tests."""

    def __init__(self) -> None:
        self.fake = FakeInvocations()

    async def __call__(self, body: bytes, headers: Mapping[str, str]) -> Answer | StreamedAnswer:
        return await self.fake(body, headers)

    async def chat_completions(self, body: bytes, headers: Mapping[str, str]) -> Answer | StreamedAnswer:
        return await self.fake.chat_completions(body, headers)


@pytest.fixture(scope="session")
def _current() -> _Current:
    return _Current()


@pytest.fixture(scope="session")
def _host(_current: _Current) -> Iterator[LiveHost]:
    with serving(create_app(cast("Invocations", _current))) as live:
        yield live


@pytest.fixture
def host(_host: LiveHost, _current: _Current, fake: FakeInvocations) -> LiveHost:
    """A host around `fake`."""
    _current.fake = fake
    return _host


@pytest.fixture
def fake() -> FakeInvocations:
    return FakeInvocations()


@pytest.fixture(scope="session")
def payload() -> Payload:
    """Return a request body."""

    def encode(inputs: str, **fields: object) -> bytes:
        return json.dumps({"inputs": inputs, **fields}).encode()

    return encode


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model in a directory."""
    directory = tmp_path_factory.mktemp("model")
    tiny_model("gpt_neox").save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def live_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHost]:
    """The real chatbot as `build` composes it, on the demonstration model and the sample library."""
    data = tmp_path_factory.mktemp("live")
    service = build_service(local_settings(model=str(DEMO_MODEL), documents=(), data=data))
    with serving(create_app(Invocations(service))) as live:
        yield live
    asyncio.run(service.close())
