"""The out-of-domain guard fitted to examples: `python -m local.domain`, or `ock domain`, which execs it.

The commands and their options; `openchatkit.domain` does the work. It is no training: one number is
chosen, the threshold, for a description and documents that stay as they are.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from openchatkit.domain import TradeOff

MAX_QUESTIONS = 10_000
SHOWN_TRADE_OFFS = 12

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def domain() -> None:
    """Fit the out-of-domain guard to example questions."""


@domain.command(short_help="Fit the threshold.")
@click.argument("inside", metavar="IN", type=_FILE)
@click.argument("outside", metavar="OUT", type=_FILE)
@click.option("--description", metavar="TEXT", help="What the bot is for: the setting domain_description.")
@click.option(
    "--docs",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Documents that describe the domain, or an index. Repeatable. Without this and --description: "
    "the sample library.",
)
@click.option("--json", "as_one_json", is_flag=True, help="Print the figures as one line of JSON.")
def calibrate(
    inside: Path, outside: Path, description: str | None, docs: tuple[Path, ...], as_one_json: bool
) -> None:
    """Fit the threshold of the guard to two small lists of questions, one a line.

    IN holds questions that the bot is for, OUT questions that it is not for. Thirty of each are a good
    start. It prints the best threshold for the setting domain_threshold, and what others would do: how
    many of IN are answered, how many of OUT overridden. Courtesies (Hello, thank you) are always
    answered and are left out of the figures.
    """
    lists = [read_questions(inside), read_questions(outside)]
    # It takes seconds to import, which `--help` and a bad list need not wait for.
    from openchatkit.domain import calibrate as fit

    try:
        found = fit(*similarities(lists, description, docs))
    except ValueError as error:
        raise click.ClickException(f"{error} that is no courtesy") from error
    if as_one_json:
        click.echo(
            json.dumps(
                {
                    "threshold": round(found.best.threshold, 4),
                    "kept": round(found.best.kept, 4),
                    "refused": round(found.best.refused, 4),
                    "auroc": round(found.auroc, 4),
                }
            )
        )
        return
    console = Console(highlight=False)
    console.print(
        f"domain_threshold: {found.best.threshold:.3f} answers {found.best.kept:.1%} of IN and overrides "
        f"{found.best.refused:.1%} of OUT (AUROC {found.auroc:.3f})",
        soft_wrap=True,
    )
    table = Table("threshold", "IN answered", "OUT overridden", title="Trade-off")
    for each in thinned(found.trade_offs):
        table.add_row(f"{each.threshold:.3f}", f"{each.kept:.1%}", f"{each.refused:.1%}")
    console.print(table)


def similarities(
    lists: Sequence[Sequence[str]], description: str | None, docs: tuple[Path, ...]
) -> list[list[float]]:
    """Return how like the domain the questions of each list are, courtesies left out.

    Raises:
        click.ClickException: the description or the documents cannot be used.
    """
    from local.defaults import LIBRARY
    from openchatkit.build import Progress, build_documents, build_encoder
    from openchatkit.domain import EmbeddingDomainGuard
    from openchatkit.settings import Settings, SettingsError

    documents = docs or (() if description is not None else (LIBRARY,))
    with tempfile.TemporaryDirectory(prefix="openchatkit-domain-") as folder:
        settings = Settings(model="none", documents=documents, documents_cache=Path(folder))
        encoder = build_encoder(settings, Progress())
        assert encoder is not None
        try:
            sources = build_documents(settings, encoder, Progress())
            nearest = (lambda vector: max(each.similarity(vector) for each in sources)) if sources else None
            guard = EmbeddingDomainGuard(
                encoder,
                description=description,
                threshold=settings.domain_threshold,
                reply=settings.domain_reply,
                nearest=nearest,
            )
        except (SettingsError, ValueError) as error:
            raise click.ClickException(str(error)) from error
        vectors = [encoder.encode(questions) for questions in lists]
        return [[guard.similarity(v) for v in of if not guard.is_courtesy(v)] for of in vectors]


def read_questions(path: Path) -> list[str]:
    """Return the lines of a file, blank ones left out.

    Raises:
        click.UsageError: it is not UTF-8, holds nothing, or more than `MAX_QUESTIONS`.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{path} is not text in UTF-8") from error
    if not lines:
        raise click.UsageError(f"{path} holds no questions")
    if len(lines) > MAX_QUESTIONS:
        raise click.UsageError(f"{path} holds more than {MAX_QUESTIONS:,} questions")
    return lines


def thinned(items: Sequence[TradeOff]) -> list[TradeOff]:
    """Return at most `SHOWN_TRADE_OFFS` items, evenly spread, the first and the last among them."""
    if len(items) <= SHOWN_TRADE_OFFS:
        return list(items)
    step = (len(items) - 1) / (SHOWN_TRADE_OFFS - 1)
    return [items[round(number * step)] for number in range(SHOWN_TRADE_OFFS)]


if __name__ == "__main__":
    domain(prog_name="ock domain")
