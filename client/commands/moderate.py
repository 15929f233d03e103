"""`ock moderate`: judge texts by the chatbot's own moderation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from client.options import Target, target_options
from client.terminal import Screen, as_json, one_line

MAX_TEXTS = 64
"""Most texts of one request, by the wire."""
MAX_CHARACTERS = 100_000
"""Of the texts of one request together: it stays far below the wire's bytes and SageMaker's 60 s."""


@click.command(short_help="Judge texts.")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Judge a text a line: plain lines, or objects with `text` where the name ends in .jsonl. "
    "Blank lines are skipped; `-` is standard input.",
)
@click.option(
    "--json", "as_json_lines", is_flag=True, help='Print {"label", "scores", "harm"}, a line a text.'
)
@target_options
def moderate(target: Target, texts: tuple[str, ...], path: Path | None, as_json_lines: bool) -> None:
    """Judge each TEXT: its label, its harm from 0 to 1 and, with --json, the score of each label."""
    judged = [*texts, *(read_texts(path) if path is not None else ())]
    if not judged:
        raise click.UsageError("give a TEXT or --file")
    screen = Screen()
    for batch in batches(judged):
        reply = target.endpoint.invoke({"requestType": "MODERATE", "inputs": batch})
        for text, verdict in zip(batch, reply["verdicts"], strict=True):
            if as_json_lines:
                click.echo(as_json({name: verdict[name] for name in ("label", "scores", "harm")}))
            else:
                screen.line(f"{verdict['label']:<24} {verdict['harm']:.2f}  {one_line(text, 60)}")


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield the texts in order, as many together as one request may hold, at least one."""
    batch: list[str] = []
    for text in texts:
        if batch and (len(batch) == MAX_TEXTS or sum(map(len, batch)) + len(text) > MAX_CHARACTERS):
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch


def read_texts(path: Path) -> list[str]:
    """Return the texts of a file.

    Raises:
        click.UsageError: the file is not UTF-8, or a line of a .jsonl holds no `text`.
    """
    try:
        with click.open_file(str(path), encoding="utf-8") as file:
            # Not splitlines: a text may hold other line breaks, such as U+2028.
            lines = [line for line in file.read().split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{path} is not text in UTF-8") from error
    return [_text_of(line) for line in lines] if path.suffix == ".jsonl" else lines


def _text_of(line: str) -> str:
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError) as error:
        raise click.UsageError(f'not an object with "text": {one_line(line, 40)}') from error
    if not isinstance(text, str):
        raise click.UsageError(f'"text" is not a string: {one_line(line, 40)}')
    return text
