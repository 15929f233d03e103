"""Start the chatbot on this machine: `python -m local.serve`, or `ock serve`, which execs it.

The command and its options; `local.chatbot` does the work. It says what it loads, listens on
127.0.0.1 from the first moment (`/ping` is 503 until it is ready) and ends within two seconds of
Ctrl-C.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from rich.console import Console

from local import DEFAULT_PORT

if TYPE_CHECKING:
    from local.chatbot import Chatbot

EXIT_CANNOT_START = 1
EXIT_BAD_SETTING = 2


@click.command(name="serve", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port of 127.0.0.1 to listen on; 0 takes a free one.",
)
@click.option(
    "--docs",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Answer from the documents in DIR (.txt .md .html .pdf .csv .jsonl .parquet), from one file, or "
    "from an index (`ock index build`), instead of the sample library. Repeatable.",
)
@click.option(
    "--sources",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A YAML file that names further sources: Wikipedia, web search, JSON interfaces, news feeds.",
)
@click.option(
    "--model",
    default=None,
    metavar="DIR_OR_ID",
    help="A causal language model: a directory with safetensors, or a Hugging Face id, which is downloaded. "
    "The default is the small demonstration model of this repository.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Where conversations and the documents' index are kept; the default is the system's folder for "
    "application data (~/.local/share/openchatkit on Linux).",
)
@click.option("--page/--no-page", default=True, show_default=True, help="Serve the chat page at /.")
def serve(
    port: int,
    docs: tuple[Path, ...],
    sources: Path | None,
    model: str | None,
    data_dir: Path | None,
    page: bool,
) -> None:
    """Run the chatbot on this machine.

    It listens on 127.0.0.1 only and speaks SageMaker's runtime API, OpenAI's chat completions and,
    at /, the chat page.
    """
    # Late: `--help` has no use for a web framework and its second of imports.
    from local import defaults
    from local.chatbot import Chatbot
    from local.server import PortTaken, bind
    from openchatkit.errors import OpenChatKitError
    from openchatkit.settings import SettingsError

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        model = model or str(defaults.DEMO_MODEL)
        chatbot = Chatbot(Console(highlight=False), model, docs, data_dir, page, sources)
        asyncio.run(run_and_leave(chatbot, bind(port)))
    except SettingsError as error:
        fail(str(error), EXIT_BAD_SETTING)
    except PortTaken as error:
        fail(str(error), EXIT_CANNOT_START)
    except OpenChatKitError as error:
        fail(f"{error.code}: {error.message}", EXIT_CANNOT_START)
    except OSError as error:
        if error.strerror is None:  # not the system's, but a library's
            raise
        fail(f"{error.strerror}: {error.filename or f'port {port}'}", EXIT_CANNOT_START)


async def run_and_leave(chatbot: Chatbot, listening: socket.socket) -> NoReturn:
    """Run a chatbot to its end, and end the process there.

    All is closed and stored then. What is left is seconds of Python taking PyTorch down module by
    module, or a thread in the middle of importing it, which can be neither stopped nor waited for.
    """
    await chatbot.run(listening)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def fail(message: str, code: int) -> NoReturn:
    """End the program with one line on stderr."""
    click.echo(f"ock serve: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    serve(prog_name="ock serve")
