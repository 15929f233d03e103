"""A host as a process of its own: `python tests/local/host_process.py PORT LOAD_SECONDS`."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import cast

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "handler"), str(ROOT / "tests/local")]

from fastapi import FastAPI  # noqa: E402
from live import FakeInvocations  # type: ignore[import-not-found]  # noqa: E402

from local.host import create_app  # noqa: E402
from local.server import PortTaken, bind, run_host  # noqa: E402
from openchatkit.invocations import Invocations  # noqa: E402


def load() -> FastAPI:
    time.sleep(float(sys.argv[2]))
    return create_app(cast("Invocations", FakeInvocations()))


try:
    listening = bind(int(sys.argv[1]))
except PortTaken as error:
    sys.exit(str(error))
print(listening.getsockname()[1], flush=True)  # noqa: T201
ready = asyncio.run(run_host(listening, load, on_ready=lambda: print("ready", flush=True)))  # noqa: T201
print("ended" if ready else "abandoned", flush=True)  # noqa: T201
