"""The entry point under DJL Serving: `Input` to the wire's bytes, answers to `Output`.

DJL calls `handle` once without content, to load, with the model's options as properties; then for each
request. Whatever goes wrong must become an output: an exception in a generator would hang its client,
and one while loading would lock up the server, which is therefore ended instead. What a request means,
and how it is bounded in tokens and time, is decided in `openchatkit`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from djl_python import Input, Output
from djl_python.async_utils import create_non_stream_output, create_stream_chunk_output

from openchatkit import build, options
from openchatkit.errors import EngineFailed, reason
from openchatkit.invocations import Answer, Answering, LastLine, StreamedAnswer, error_answer

SERVER_STOP_S = 30  # for the server to end on SIGTERM, after a load that failed

_SERVER, _logger = os.getppid(), logging.getLogger("openchatkit")
_FAILED = error_answer(EngineFailed("the request failed for a reason of ours"))
_loaded: list[Answering] = []


async def handle(inputs: Input) -> Output | AsyncGenerator[Output, None] | None:
    """Load on the first call, answer on every later one."""
    if inputs.is_empty() and not _loaded:
        _loaded.append(await _load(inputs.get_properties()))
        return None
    try:
        content = b"" if inputs.is_empty() else bytes(inputs.get_as_bytes())
        answer = await _loaded[0](content, inputs.get_properties())
    except Exception as error:  # noqa: BLE001 - DJL would log its text, which may quote the request
        _logger.warning("event=request_failed cause=%s", type(error).__name__)
        answer = _FAILED
    return _chunks(answer) if isinstance(answer, StreamedAnswer) else _output(answer)


async def _load(properties: Mapping[str, Any]) -> Answering:
    began = time.monotonic()
    try:
        answering = await asyncio.to_thread(lambda: build.build_answering(options.settings_from(properties)))
    except BaseException as error:
        _logger.critical("event=load_failed %s", reason(error))
        os.kill(_SERVER, signal.SIGTERM)
        await asyncio.sleep(SERVER_STOP_S)
        os.kill(_SERVER, signal.SIGKILL)
        raise
    _logger.info("event=loaded seconds=%.1f", time.monotonic() - began)
    return answering


def _output(answer: Answer) -> Output:
    if answer.status == 200:
        return create_non_stream_output(answer.body.decode(), properties=dict(answer.headers))
    # DJL puts the text into the status line too, where it must be one line of plain characters.
    text = " ".join(json.loads(answer.body)["error"].split()).encode("ascii", "replace").decode()
    return create_non_stream_output("", error=text, code=answer.status)


async def _chunks(answer: StreamedAnswer) -> AsyncGenerator[Output, None]:
    line = b""
    try:
        async with aclosing(answer.lines) as lines:
            async for line in lines:  # DJL adds the line's end
                yield create_stream_chunk_output(line.decode().rstrip("\n"), isinstance(line, LastLine))
    except Exception as error:  # noqa: BLE001 - uncaught, it would hang the client and be logged nowhere
        _logger.warning("event=stream_failed cause=%s", type(error).__name__)
    if not isinstance(line, LastLine):
        yield create_stream_chunk_output(_FAILED.body.decode(), last_chunk=True)
