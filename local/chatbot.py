"""One run of the chatbot on this machine: load with progress, serve, close.

PyTorch, transformers and Chainlit are imported while it loads, in a thread: the port answers, and
Ctrl-C works, from the first moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from local import DEFAULT_PORT, defaults
from local.host import create_app
from local.server import ADDRESS, run_host
from openchatkit import build
from openchatkit.invocations import Invocations
from openchatkit.service import OpenChatKitService

CLOSE_S = 0.8
"""How long stopped turns may take to be stored at the end."""


@dataclass
class Chatbot:
    """One run of the chatbot, from its settings to its end."""

    console: Console
    model: str
    documents: tuple[Path, ...]
    data_dir: Path | None
    page: bool
    sources: Path | None = None
    began: float = field(default_factory=time.monotonic)
    service: OpenChatKitService | None = None

    def __post_init__(self) -> None:
        defaults.check_model(self.model)
        self.demonstration = defaults.is_demonstration(self.model)
        self.data = (self.data_dir or defaults.data_directory()).resolve()
        self.settings = defaults.local_settings(
            model=self.model, documents=self.documents, data=self.data, sources=self.sources
        )

    async def run(self, listening: socket.socket) -> None:
        """Load, serve, and close when a signal has ended it."""
        port: int = listening.getsockname()[1]
        ready = await run_host(listening, self.load, on_ready=lambda: self.say_ready(port))
        if ready and self.service is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.service.close(), CLOSE_S)
        self.console.print("Stopped.")

    def load(self) -> FastAPI:
        """Return the host's app with everything behind it; blocks for seconds."""
        # Conversations are nobody else's business on a machine that several people use.
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        set_environment(self.model)
        self.service = build.build_service(self.settings, LoadingView(self.console))
        name = "openchatkit-demo" if self.demonstration else self.model
        invocations = Invocations(self.service, model_name=name, heartbeat_s=self.settings.heartbeat_s)
        return create_app(invocations, mount_page=self.mount_page if self.page else None, model_name=name)

    def mount_page(self, app: FastAPI) -> None:
        """Add the chat page to the app."""
        from local.page import About, ServicePort, mount_page

        assert self.service is not None
        self.console.print("Loading the chat page")
        starters = () if self.documents else defaults.EXAMPLE_QUESTIONS
        about = About(self.model, demonstration=self.demonstration, starters=starters)
        mount_page(app, ServicePort(self.service), about)

    def say_ready(self, port: int) -> None:
        """Print the address, what to ask and what to know."""
        say = self.console.print
        seconds = time.monotonic() - self.began
        url = f"http://{ADDRESS}:{port}"
        say(f"\n[bold]OpenChatKit answers at {url}[/bold] (loaded in {seconds:.1f} s; Ctrl-C ends it)")
        if not self.page:
            say(f"The chat page is off; ask with `{ock_command('ask', port)}`.", markup=False)
        if not self.documents:
            say("\nThree questions to the sample library:")
            for question in defaults.EXAMPLE_QUESTIONS:
                say(f'  {ock_command("ask", port)} "{question}"', soft_wrap=True, markup=False)
        if self.demonstration:
            say(
                "\nThe built-in model is a small demonstration model: it quotes sentences from the\n"
                f"documents and knows nothing else. For a real one: {ock_command('serve')} --model DIR_OR_ID",
                soft_wrap=True,
                markup=False,
            )
        say(f"\nConversations are kept in {self.data}", soft_wrap=True, markup=False)


class LoadingView(build.Progress):
    """Shows what is being loaded: a line a step, a bar for the documents where there is a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None

    def step(self, text: str) -> None:
        """Print a step."""
        self._console.print(text, markup=False, soft_wrap=True)

    def documents(self, done: int, total: int) -> None:
        """Move the bar; it goes away when all is done."""
        if not self._console.is_terminal:
            if done >= total > 0:
                self._console.print(f"Indexed {total} sentences")
            return
        if self._bar is None:
            columns = TextColumn("Indexing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            self._bar = Progress(*columns, console=self._console)
            self._bar.add_task("Indexing", total=total)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        if done >= total:
            self._bar.stop()
            self._bar = None


def set_environment(model: str) -> None:
    """Keep Hugging Face's libraries quiet, and off the network where the model is on the disk.

    A download shows its progress; weights of a few megabytes that are read from the disk need none.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if Path(model).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def ock_command(name: str, port: int = DEFAULT_PORT) -> str:
    """Return what a reader types, where this was started, to run a command of `ock`."""
    installed = Path(sys.executable).parent / "ock"
    found = shutil.which("ock")
    if found is not None and Path(found).resolve() == installed.resolve():
        program = "ock"
    else:
        program = os.path.relpath(installed) if installed.is_relative_to(Path.cwd()) else str(installed)
    address = "" if port == DEFAULT_PORT else f" --url http://{ADDRESS}:{port}"
    return f"{program} {name}{address}"
