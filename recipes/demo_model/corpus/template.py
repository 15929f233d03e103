"""Templates: `[one|other|]` stands for a choice, `{slot}` for a value somebody else supplies.

Not a language: no conditions, no loops. Brackets nest. A macro `@name` is replaced while a file is
read. Templates are parsed once and expanded many times, so expansion is kept plain and quick.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data"

Resolver = Callable[[str], str]

_TOKEN = re.compile(r"[\[\]|]|\{[^}]*\}|[^\[\]|{]+")
_SPACES = re.compile(r" {2,}")
_BEFORE_MARK = re.compile(r" +([,.;:?!)])")
_TWO_STOPS = re.compile(r"(?<!\.)\.\.(?!\.)")
"""After a name that ends in one of its own."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A hole in a template."""

    name: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Alternatives, each a sequence of parts."""

    options: tuple[tuple[Part, ...], ...]


Part = str | Slot | Choice


def _parse_options(tokens: list[str], at: int, depth: int) -> tuple[list[tuple[Part, ...]], int]:
    options: list[tuple[Part, ...]] = []
    current: list[Part] = []
    while at < len(tokens):
        mark = tokens[at]
        at += 1
        if mark == "[":
            inner, at = _parse_options(tokens, at, depth + 1)
            current.append(Choice(tuple(inner)))
        elif mark == "]":
            if depth == 0:
                raise ValueError("a ] too many")
            options.append(tuple(current))
            return options, at
        elif mark == "|" and depth:
            options.append(tuple(current))
            current = []
        elif mark.startswith("{"):
            current.append(Slot(mark[1:-1]))
        else:
            current.append(mark)
    if depth:
        raise ValueError("a [ is not closed")
    options.append(tuple(current))
    return options, at


def _slots(parts: tuple[Part, ...]) -> frozenset[str]:
    found: set[str] = set()
    for part in parts:
        if isinstance(part, Slot):
            found.add(part.name)
        elif isinstance(part, Choice):
            for option in part.options:
                found |= _slots(option)
    return frozenset(found)


class Template:
    """A parsed template."""

    __slots__ = ("parts", "slots", "source")

    def __init__(self, source: str) -> None:
        try:
            options, _ = _parse_options(_TOKEN.findall(source), 0, 0)
        except ValueError as error:
            raise ValueError(f"{error}: {source}") from error
        self.source = source
        self.parts = options[0]
        self.slots = _slots(self.parts)

    def expand(self, rng: random.Random, resolve: Resolver) -> str:
        """Return the text with every choice made and every slot filled."""
        out: list[str] = []
        _expand(self.parts, rng.random, resolve, out)
        return tidy("".join(out))


def _expand(parts: tuple[Part, ...], draw: Callable[[], float], resolve: Resolver, out: list[str]) -> None:
    for part in parts:
        if isinstance(part, str):
            out.append(part)
        elif isinstance(part, Slot):
            out.append(resolve(part.name))
        else:
            options = part.options
            _expand(options[int(draw() * len(options))], draw, resolve, out)


def tidy(text: str) -> str:
    """Return `text` without doubled blanks and stops, and blanks before a comma or full stop."""
    return _TWO_STOPS.sub(".", _BEFORE_MARK.sub(r"\1", _SPACES.sub(" ", text))).strip()


def capitalise(text: str) -> str:
    """Return `text` with its first letter in upper case and the rest as it is."""
    return text[:1].upper() + text[1:]


def read_lines(name: str) -> list[str]:
    """Return the lines of a data file without comments and empty ones."""
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def read_macros(name: str) -> dict[str, str]:
    """Return `@name text` lines as a mapping; later macros may use earlier ones."""
    macros: dict[str, str] = {}
    for line in read_lines(name):
        head, _, text = line.partition(" ")
        macros[head] = fill_macros(text, macros)
    return macros


def fill_macros(text: str, macros: dict[str, str]) -> str:
    """Return `text` with its macros replaced."""
    return re.sub(r"@\w+", lambda match: macros.get(match.group(), match.group()), text)
