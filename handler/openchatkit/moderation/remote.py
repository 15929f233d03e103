"""A judge on a SageMaker endpoint: the production variant whose container runs the role `moderation`.

It asks by `InvokeEndpoint` with `TargetVariant`, in threads of its own, because boto3 blocks. What
comes back is checked as if a stranger had sent it: the size, JSON, the members and their types here;
labels, sums and harm by `ModerationModel`, as with every judge. Whatever is wrong is
`ModerationUnavailable`. Nothing is remembered, so recovery needs nobody.

Limits: a call ends by its own timeouts, also after its caller has given up, and holds one of
`CALLS_AT_ONCE` threads until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from openchatkit import wire
from openchatkit.errors import ModerationUnavailable, OpenChatKitError
from openchatkit.moderation.labels import CategorisedVerdict
from openchatkit.ports import Verdict

if TYPE_CHECKING:
    from types_boto3_sagemaker_runtime import SageMakerRuntimeClient

CALLS_AT_ONCE = 32
ATTEMPTS = 2
"""botocore tries again where a connection fails, is silent or SageMaker itself asks for it; never where
the container answered."""
CONNECT_TIMEOUT_S = 2.0
MAX_REPLY_BYTES = 64 * 1024
"""A verdict has about 250 bytes."""

# What the wire refuses in a text; every judge reads it as a blank.
_UNSENDABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def runtime_client(timeout_s: float) -> SageMakerRuntimeClient:
    """Return a client of SageMaker's runtime whose attempts together wait for about `timeout_s`."""
    return boto3.client(
        "sagemaker-runtime",
        config=Config(
            connect_timeout=min(CONNECT_TIMEOUT_S, timeout_s / ATTEMPTS),
            read_timeout=timeout_s / ATTEMPTS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            max_pool_connections=CALLS_AT_ONCE,
        ),
    )


class RemoteModerator:
    """A `Moderator` over an endpoint."""

    def __init__(self, client: SageMakerRuntimeClient, *, endpoint_name: str, variant: str | None) -> None:
        self._client = client
        self._target: dict[str, Any] = {"EndpointName": endpoint_name}
        if variant is not None:
            self._target["TargetVariant"] = variant
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="moderation")

    async def judge(self, human: str, bot: str | None = None) -> Verdict:
        """Return the endpoint's verdict, unchecked but for its shape.

        Raises:
            ModerationUnavailable: no answer, an error or nonsense.
        """
        request: dict[str, str] = {"requestType": "MODERATE", "inputs": _UNSENDABLE.sub(" ", human)}
        if bot is not None:
            request["bot"] = _UNSENDABLE.sub(" ", bot)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._ask, request)

    async def close(self) -> None:
        """Let go of connections; calls on their way end by their timeouts, unheard."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _ask(self, request: Mapping[str, str]) -> Verdict:
        try:
            answer = self._client.invoke_endpoint(
                **self._target,
                ContentType="application/json",
                Accept="application/json",
                Body=json.dumps(request).encode(),
            )
            with contextlib.closing(answer["Body"]) as body:
                # The second read finds the end, or that the answer was cut short before it.
                content = body.read(MAX_REPLY_BYTES + 1) + body.read(1)
        except Exception as error:  # noqa: BLE001 - botocore, urllib3 and sockets each have their own tree
            # Not chained: a ModelError quotes the container's answer. Its type says what to look for.
            raise ModerationUnavailable(
                f"the moderation endpoint gave no verdict: {type(error).__name__}"
            ) from None
        return _verdict(content)


def _verdict(content: bytes) -> Verdict:
    """Return the one verdict of an answer to MODERATE; raises `ModerationUnavailable`."""
    if len(content) > MAX_REPLY_BYTES:
        raise ModerationUnavailable("the moderation endpoint's answer is too long to be a verdict")
    try:
        verdicts = wire.validate(wire.Verdicts, wire.parse_json(content)).verdicts
    except OpenChatKitError:
        # Not chained, not quoted: the answer may repeat the text.
        raise ModerationUnavailable("the moderation endpoint's answer is not one of this program") from None
    if len(verdicts) != 1:
        raise ModerationUnavailable("the moderation endpoint answered with another number of verdicts")
    found = verdicts[0]
    return CategorisedVerdict(found.label, found.scores, found.harm, found.category)
