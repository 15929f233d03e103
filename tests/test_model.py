"""The entry point with DJL's own `djl_python`: what becomes of answers, errors and failures to load.

Under the whole engine it runs in `tests/contract/djl`; here is what that engine cannot be brought to.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import signal
import sys
import zipfile
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from openchatkit.errors import InvalidRequest
from openchatkit.invocations import Answer, LastLine, StreamedAnswer, error_answer

pytestmark = pytest.mark.java

ROOT = Path(__file__).parents[1]
CANARY = "canary-77a1"


@pytest.fixture(scope="module")
def djl_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `djl_python`, out of DJL's jar."""
    jar = next((ROOT / ".dev" / "jars" / "djl").glob("python-*.jar"), None)
    if jar is None:
        pytest.skip("needs the jars of DJL: scripts/setup_tests fetches them where there is mvn")
    folder = tmp_path_factory.mktemp("djl_python")
    with zipfile.ZipFile(jar) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith("djl_python/")])
    return folder


@pytest.fixture
def model(djl_python: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A freshly imported `handler/model.py`."""
    monkeypatch.syspath_prepend(str(djl_python))
    spec = importlib.util.spec_from_file_location("openchatkit_model", ROOT / "handler" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in [name for name in sys.modules if name.split(".")[0] == "djl_python"]:
        del sys.modules[name]


class Scripted:
    """Answers with what the test prepared; an exception is raised."""

    def __init__(self, answer: Answer | StreamedAnswer | Exception) -> None:
        self.answer = answer
        self.bodies: list[bytes] = []

    async def __call__(self, body: bytes, headers: Mapping[str, str]) -> Answer | StreamedAnswer:
        self.bodies.append(body)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def chat_completions(self, body: bytes, headers: Mapping[str, str]) -> Answer | StreamedAnswer:
        raise AssertionError("DJL hands every path over as the same call")

    async def close(self) -> None:
        pass


def request(model: ModuleType, body: bytes = b"{}") -> Any:
    inputs = model.Input()
    inputs.content.add(key="data", value=bytearray(body))
    return inputs


def decoded(output: Any) -> dict[str, str]:
    """Return what an output carries to DJL's server: a count of pairs, then texts behind their lengths."""
    content = io.BytesIO(bytes(output.content.value_at(0)))

    def number(size: int) -> int:
        return int.from_bytes(content.read(size), "big")

    def text() -> str:
        return content.read(number(4)).decode()

    return {text(): text() for _ in range(number(2))}


async def chunks(outputs: AsyncGenerator[Any, None]) -> list[dict[str, Any]]:
    return [decoded(output) async for output in outputs]


async def lines(*given: bytes | Exception) -> AsyncGenerator[bytes]:
    for one in given:
        if isinstance(one, Exception):
            raise one
        yield one


async def test_an_answer_is_one_output(model: ModuleType) -> None:
    scripted = Scripted(Answer(200, '{"generated_text":"€"}'.encode(), headers={"X-Some": "header"}))
    model._loaded.append(scripted)
    output = await model.handle(request(model, b'{"inputs":"q"}'))
    assert scripted.bodies == [b'{"inputs":"q"}']
    assert decoded(output) == {"data": '{"generated_text":"€"}\n', "last": "True"}
    assert output.properties["X-Some"] == "header"
    assert output.properties["Content-Type"] == "application/json"


async def test_an_error_is_a_status_and_one_plain_line(model: ModuleType) -> None:
    model._loaded.append(Scripted(error_answer(InvalidRequest("inputs: “so”\r\n  not"))))
    fields = decoded(await model.handle(request(model)))
    assert (fields["code"], fields["error"]) == ("400", "invalid_request: inputs: ?so? not")


async def test_an_unforeseen_error_is_answered_and_quotes_nothing(
    model: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    model._loaded.append(Scripted(RuntimeError(CANARY)))
    fields = decoded(await model.handle(request(model)))
    assert (fields["code"], fields["error"].split(":")[0]) == ("500", "engine_failed")
    assert "RuntimeError" in caplog.text
    assert CANARY not in caplog.text + str(fields)


async def test_a_stream_ends_with_its_own_last_line(model: ModuleType) -> None:
    model._loaded.append(Scripted(StreamedAnswer(lines(b'{"a":1}\n', b"\n", LastLine(b'{"b":2}\n')))))
    sent = await chunks(await model.handle(request(model)))
    assert [(one["data"], one["last"]) for one in sent] == [
        ('{"a":1}\n', "False"),
        ("\n", "False"),
        ('{"b":2}\n', "True"),
    ]


@pytest.mark.parametrize("broken", [(RuntimeError(CANARY),), ()], ids=["raises", "just ends"])
async def test_a_stream_that_breaks_off_ends_with_an_error(
    model: ModuleType, caplog: pytest.LogCaptureFixture, broken: tuple[Exception, ...]
) -> None:
    model._loaded.append(Scripted(StreamedAnswer(lines(b'{"a":1}\n', *broken))))
    sent = await chunks(await model.handle(request(model)))
    assert [one["last"] for one in sent] == ["False", "True"]
    assert json.loads(sent[-1]["data"])["code"] == 500
    assert CANARY not in caplog.text + str(sent)


async def test_what_breaks_after_the_last_line_adds_no_second_one(model: ModuleType) -> None:
    model._loaded.append(Scripted(StreamedAnswer(lines(LastLine(b"{}\n"), RuntimeError(CANARY)))))
    sent = await chunks(await model.handle(request(model)))
    assert [one["last"] for one in sent] == ["True"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"ock_tabel_name": "t"}, "SettingsError: ock_tabel_name"),
        (
            {"ock_moderation_policy": "/no/such/policy"},
            "SettingsError: moderation_policy: policy cannot be read",
        ),
    ],
)
async def test_a_load_that_fails_ends_the_server(
    model: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, str],
    reason: str,
) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(model.os, "kill", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(model, "_SERVER", 4242)
    monkeypatch.setattr(model, "SERVER_STOP_S", 0)
    inputs = model.Input()
    inputs.properties.update({"model_id": "m", **options})
    with pytest.raises(Exception, match=r"ock_tabel_name|moderation_policy"):
        await model.handle(inputs)
    assert sent == [(4242, signal.SIGTERM), (4242, signal.SIGKILL)]
    critical = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(critical) == 1
    assert f"event=load_failed {reason}" in critical[0].getMessage()
    assert "\n" not in critical[0].getMessage()
