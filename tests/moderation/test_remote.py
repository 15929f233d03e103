"""The judge behind an endpoint: a real boto3 client against the local host, and against a hostile server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from local.host import create_app
from openchatkit.errors import ModerationUnavailable
from openchatkit.invocations import JudgingInvocations
from openchatkit.judging import JudgingService
from openchatkit.moderation.labels import CategorisedVerdict
from openchatkit.moderation.model import ModerationModel
from openchatkit.moderation.remote import ATTEMPTS, MAX_REPLY_BYTES, RemoteModerator, runtime_client
from openchatkit.ports import Verdict
from openchatkit.settings import Settings
from tests.fakes import verdict
from tests.local.live import serving

if TYPE_CHECKING:
    from types_boto3_sagemaker_runtime import SageMakerRuntimeClient

CANARY = "canary-9d20"
TIMEOUT_S = 30.0


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)


def client(url: str, timeout_s: float = TIMEOUT_S) -> SageMakerRuntimeClient:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
        return runtime_client(timeout_s)


# --- against this program ------------------------------------------------------------------------


@dataclass
class Judge:
    """What stands behind the endpoint; tests set what it answers."""

    answer: Callable[[str, str | None], Verdict]
    judged: list[tuple[str, str | None]] = field(default_factory=list)

    async def judge(self, human: str, bot: str | None = None) -> Verdict:
        self.judged.append((human, bot))
        return self.answer(human, bot)


@pytest.fixture
def judge() -> Judge:
    return Judge(lambda human, bot: verdict("needs caution" if "bad" in f"{human} {bot}" else "casual"))


@pytest.fixture
def endpoint(judge: Judge) -> Iterator[str]:
    service = JudgingService(settings=Settings(role="moderation"), moderator=judge)
    with serving(create_app(JudgingInvocations(service))) as live:
        yield live.url


async def test_it_asks_the_variant_and_returns_its_verdict(endpoint: str, judge: Judge) -> None:
    moderator = RemoteModerator(client(endpoint), endpoint_name="chatbot", variant="moderation")
    assert (await moderator.judge("Hello")).label == "casual"
    assert (await moderator.judge("Something bad")).label == "needs caution"
    assert (await moderator.judge("Hello", "a bad reply")).label == "needs caution"
    assert judge.judged == [("Hello", None), ("Something bad", None), ("Hello", "a bad reply")]
    await moderator.close()


async def test_the_kind_of_harm_travels(endpoint: str, judge: Judge) -> None:
    told = verdict("needs intervention")
    judge.answer = lambda human, bot: CategorisedVerdict(told.label, told.scores, told.harm, "self_harm")
    moderator = RemoteModerator(client(endpoint), endpoint_name="chatbot", variant=None)
    found = await moderator.judge("Hello")
    assert isinstance(found, CategorisedVerdict)
    assert found.category == "self_harm"
    await moderator.close()


async def test_what_the_wire_refuses_is_judged_as_blanks(endpoint: str, judge: Judge) -> None:
    moderator = RemoteModerator(client(endpoint), endpoint_name="chatbot", variant=None)
    await moderator.judge("a\x00b", "c\x1ad\ud800")
    assert judge.judged == [("a b", "c d ")]
    await moderator.close()


async def test_many_judgements_at_once(endpoint: str) -> None:
    moderator = RemoteModerator(client(endpoint), endpoint_name="chatbot", variant=None)
    texts = [f"text {number}" + " bad" * (number % 2) for number in range(100)]
    found = await asyncio.gather(*(moderator.judge(text) for text in texts))
    assert [one.label for one in found] == ["casual", "needs caution"] * 50
    await moderator.close()


async def test_a_judge_that_cannot_judge_is_unavailable_and_recovers(endpoint: str, judge: Judge) -> None:
    right = judge.answer

    def broken(human: str, bot: str | None) -> Verdict:
        raise ModerationUnavailable(CANARY)

    judge.answer = broken
    moderator = RemoteModerator(client(endpoint), endpoint_name="chatbot", variant=None)
    with pytest.raises(ModerationUnavailable, match="ModelError"):
        await moderator.judge(CANARY)
    judge.answer = right
    assert (await moderator.judge("Hello")).label == "casual"
    await moderator.close()


# --- against a stranger --------------------------------------------------------------------------


@dataclass
class Stranger:
    """An HTTP server that answers whatever the test has prepared."""

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    hang: bool = False
    cut: bool = False
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    told = Stranger()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            told.requests.append((self.path, dict(self.headers), content))
            if told.hang:
                told.released.wait(60)
                self.close_connection = True
                return
            self.send_response(told.status)
            self.send_header("Content-Length", str(len(told.body) + 100 * told.cut))
            self.end_headers()
            self.wfile.write(told.body)
            self.close_connection = told.cut

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # clients that gave up

    server = Server(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    yield told
    told.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def judgement(**changes: Any) -> dict[str, Any]:
    right = verdict("casual")
    return {"label": right.label, "scores": dict(right.scores), "harm": right.harm, **changes}


def body(*verdicts: dict[str, Any]) -> bytes:
    return json.dumps({"verdicts": list(verdicts)}).encode()


RIGHT = body(judgement())
NONSENSE = {
    "not JSON": b"<html>",
    "empty": b"",
    "not UTF-8": b"\xff\xfe{}",
    "not an object": b"[]",
    "an error": b'{"error": "engine_failed: x", "code": 500}',
    "no verdict": body(),
    "too many verdicts": body(judgement(), judgement()),
    "unknown label": body(judgement(label="fine")),
    "label without a score": body(judgement(scores={"casual": 1.0})),
    "unknown score": body(judgement(scores={**verdict().scores, "fine": 0.0})),
    "NaN": RIGHT.replace(b"1.0", b"NaN"),
    "infinite": RIGHT.replace(b"1.0", b"Infinity"),
    "negative": body(judgement(scores={**verdict().scores, "casual": 2.0, "needs caution": -1.0})),
    "does not sum to one": body(judgement(scores={**verdict().scores, "casual": 0.2})),
    "text for a number": body(judgement(harm="0.0")),
    "harm that contradicts": body(judgement(harm=0.9)),
    "label that contradicts": body(judgement(label="needs caution")),
    "no harm": b'{"verdicts": [{"label": "casual", "scores": {}}]}',
    "endless": b" " * (MAX_REPLY_BYTES + 1) + RIGHT,
}


async def test_it_is_understood_by_a_stranger_that_answers_right(stranger: Stranger) -> None:
    stranger.body = RIGHT
    moderator = RemoteModerator(client(stranger.url), endpoint_name="chatbot", variant="moderation")
    assert (await moderator.judge("Hello", "World")).label == "casual"
    path, headers, content = stranger.requests[0]
    assert path == "/endpoints/chatbot/invocations"
    assert headers["X-Amzn-SageMaker-Target-Variant"] == "moderation"
    assert json.loads(content) == {"requestType": "MODERATE", "inputs": "Hello", "bot": "World"}
    await moderator.close()


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_is_unavailable_and_is_forgotten(
    stranger: Stranger, nonsense: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    moderator = RemoteModerator(client(stranger.url), endpoint_name="chatbot", variant=None)
    guarded = ModerationModel(moderator, timeout_s=60)
    stranger.body = nonsense
    with pytest.raises(ModerationUnavailable) as failure:
        await guarded.judge(CANARY)
    assert CANARY not in caplog.text + str(failure.value)
    stranger.body = RIGHT
    assert (await guarded.judge("Hello")).label == "casual"
    await moderator.close()


@pytest.mark.parametrize("status", [400, 404, 424, 500, 503])
async def test_an_error_status_is_unavailable(stranger: Stranger, status: int) -> None:
    stranger.status, stranger.body = status, RIGHT
    moderator = RemoteModerator(client(stranger.url), endpoint_name="chatbot", variant=None)
    with pytest.raises(ModerationUnavailable):
        await moderator.judge("Hello")
    assert len(stranger.requests) <= ATTEMPTS
    await moderator.close()


async def test_an_answer_that_is_cut_short_is_unavailable(stranger: Stranger) -> None:
    stranger.body, stranger.cut = RIGHT, True
    moderator = RemoteModerator(client(stranger.url), endpoint_name="chatbot", variant=None)
    with pytest.raises(ModerationUnavailable):
        await moderator.judge("Hello")
    await moderator.close()


async def test_silence_is_unavailable_in_bounded_time(stranger: Stranger) -> None:
    stranger.hang = True
    moderator = RemoteModerator(client(stranger.url, 2.0), endpoint_name="chatbot", variant=None)
    async with asyncio.timeout(60):
        with pytest.raises(ModerationUnavailable, match="ReadTimeoutError"):
            await moderator.judge("Hello")
    assert len(stranger.requests) == ATTEMPTS
    stranger.hang, stranger.body = False, RIGHT
    assert (await moderator.judge("Hello")).label == "casual"
    await moderator.close()


async def test_nobody_there_is_unavailable() -> None:
    moderator = RemoteModerator(client("http://127.0.0.1:9", 0.4), endpoint_name="chatbot", variant=None)
    with pytest.raises(ModerationUnavailable, match=r"EndpointConnectionError|ConnectTimeoutError"):
        await moderator.judge("Hello")
    await moderator.close()


async def test_without_credentials_it_is_unavailable(stranger: Stranger) -> None:
    nobody = boto3.client(
        "sagemaker-runtime",
        endpoint_url=stranger.url,
        region_name="eu-west-1",
        aws_access_key_id="",
        aws_secret_access_key="",
        config=Config(retries={"total_max_attempts": 1}),
    )
    moderator = RemoteModerator(nobody, endpoint_name="chatbot", variant=None)
    with pytest.raises(ModerationUnavailable):
        await moderator.judge("Hello")
    await moderator.close()
