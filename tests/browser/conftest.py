"""A server with the page, and a real Chromium that watches what it asks for."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Error, Page, Request, expect, sync_playwright

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
START_TIMEOUT_S = 120
RENEWED_CONNECTION = "/ws/socket.io/"
WAIT_MS = 30_000


@dataclass(frozen=True)
class Server:
    """The page's process."""

    address: str
    log: Path
    folder: Path
    """Where it was started: it must stay empty."""


@dataclass
class Watch:
    """What a page asked for and complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()
    """Parts of complaints that a test provokes."""

    def check(self) -> None:
        """Fail where a request left this machine, or the console had an error."""
        hosts = {urlsplit(url).hostname for url in self.requests if not url.startswith(("data:", "blob:"))}
        assert hosts <= {"127.0.0.1"}, hosts
        unexpected = [line for line in self.complaints if not any(part in line for part in self.expected)]
        assert not unexpected, unexpected


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("started-here")
    log = tmp_path_factory.mktemp("log") / "server.txt"
    port = _free_port()
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'handler'}{os.pathsep}{ROOT}"}
    command = [sys.executable, str(Path(__file__).with_name("serve.py")), str(port)]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=sink, stderr=subprocess.STDOUT
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/ping", process, log)
        yield Server(f"http://127.0.0.1:{port}", log, folder)
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(f"the page did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def profile(server: Server) -> Iterator[BrowserContext]:
    """One browser profile for a module's tests: its cache keeps the front end.

    Not for the session: Playwright keeps a loop running in this thread, beside which no
    asynchronous test of another module could run.
    """
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed; CHROMIUM=PATH names another one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-background-networking"]
        )
        context = browser.new_context(
            base_url=server.address, viewport={"width": 1280, "height": 800}, reduced_motion="reduce"
        )
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.set_default_timeout(WAIT_MS)
        expect.set_options(timeout=WAIT_MS)
        yield context
        browser.close()


@pytest.fixture
def watch(profile: BrowserContext) -> Iterator[Watch]:
    """The start page in a new tab."""
    page = profile.new_page()
    watch = Watch(page)

    def asked(request: Request) -> None:
        watch.requests.append(request.url)

    def said(message: ConsoleMessage) -> None:
        where = str(message.location.get("url", ""))
        # A page that renews its connection may still ask for the old one's news.
        renewed = RENEWED_CONNECTION in where and "status of 400" in message.text
        if message.type == "error" and not renewed:
            watch.complaints.append(f"{message.text} {where}")

    def failed(error: Error) -> None:
        watch.complaints.append(str(error))

    page.on("request", asked)
    page.on("console", said)
    page.on("pageerror", failed)
    page.goto("/")
    page.wait_for_selector("#welcome-screen #chat-input")
    yield watch
    page.close()
    watch.check()
