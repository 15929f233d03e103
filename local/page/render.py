"""Turns as Chainlit's front end wants them: pure functions from records to Markdown and step objects.

The front end draws Markdown without HTML. What Markdown still allows and an answer must not do is
taken away here: pictures (they would be fetched from wherever the text says) and `[n]` links to
anywhere but our own passages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from local.page.ports import Citation, Exchange, Override

Step = dict[str, Any]
"""A message or a run, in the names of Chainlit's front end."""

BOT = "OpenChatKit"
HUMAN = "User"
PASSAGES = "/passages"

_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`)", re.DOTALL)
_DIRECTIVE = re.compile(r"(?<![\\:]):(?=[A-Za-z])")
_PICTURE = re.compile(r"!(?=\[)")
_MARK = re.compile(r"\[(\d{1,3})\](?!\()")
_FOREIGN_MARK = re.compile(r"\[(\d{1,3})\]\(")
_DEFINITION = re.compile(r"^(\s{0,3}\[[^\]\n]+\]):", re.MULTILINE)

NOTICES = {
    "input": "Moderation stopped this question (judged “{label}”). The reply below is a fixed one.",
    "output": "Moderation replaced the model’s answer (judged “{label}”). The reply below is a fixed one.",
}
STOPPED = "*Stopped.*"
CUT = "*The answer reached its length limit.*"
NO_RETRIEVAL = "*The documents could not be searched, so this answer has no sources.*"


def safe_markdown(text: str) -> str:
    """Return an answer's Markdown without pictures, directives and foreign `[n]` links.

    The front end reads `:name` as a directive and would swallow it ("USD:EUR" becomes "USD").
    """
    parts = _CODE.split(text)
    parts[::2] = [_defused(part) for part in parts[::2]]
    return "".join(parts)


def _defused(text: str) -> str:
    text = _DIRECTIVE.sub(r"\\:", text)
    text = _PICTURE.sub(r"\\!", text)
    text = _DEFINITION.sub(r"\1\\:", text)
    return _FOREIGN_MARK.sub(r"[\1] (", text)


def answer_markdown(exchange: Exchange) -> str:
    """Return a finished answer: its text, `[n]` as links, what went wrong, and the list of sources."""
    text = _linked(safe_markdown(exchange.bot), exchange)
    notes = {"cancelled": STOPPED, "length": CUT}
    paragraphs = [text, notes.get(exchange.finish_reason, "")]
    if exchange.retrieval_failed:
        paragraphs.append(NO_RETRIEVAL)
    paragraphs.append(_sources(exchange))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _linked(text: str, exchange: Exchange) -> str:
    known = {citation.number: citation for citation in exchange.citations}

    def link(match: re.Match[str]) -> str:
        citation = known.get(int(match[1]))
        return _link(exchange, citation) if citation else match[0]

    parts = _CODE.split(text)
    parts[::2] = [_MARK.sub(link, part) for part in parts[::2]]
    return "".join(parts)


def _link(exchange: Exchange, citation: Citation) -> str:
    return f"[{citation.number}]({passage_path(exchange.session_id, exchange.turn, citation.number)})"


def passage_path(session_id: str, turn: int, number: int) -> str:
    """Return the address of a cited passage on this host."""
    return f"{PASSAGES}/{quote(session_id, safe='')}/{turn}/{number}"


def _sources(exchange: Exchange) -> str:
    lines = [f"- {_link(exchange, citation)} {escaped(_where(citation))}" for citation in exchange.citations]
    return "\n".join(["*Sources*", "", *lines]) if lines else ""


def _where(citation: Citation) -> str:
    return " · ".join(part for part in (citation.title, citation.place, citation.date) if part)


def escaped(text: str) -> str:
    """Return plain text as Markdown that shows it as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>~$:&])", r"\\\1", " ".join(text.split()))


def notice(override: Override) -> str:
    """Return the sentence that says that moderation overrode."""
    return NOTICES[override.direction].format(label=escaped(override.label))


def step_id(session_id: str, turn: int, part: str) -> str:
    """Return the id that a stored turn's `human`, `run`, `notice` or `bot` step has after a reload."""
    return f"{session_id}.{turn}.{part}"


def parse_step_id(identifier: str) -> tuple[str, int] | None:
    """Return session and turn of a step id, None for one that this module did not make."""
    match = re.fullmatch(r"([A-Za-z0-9-]+)\.(\d{1,10})\.[a-z]+", identifier)
    return (match[1], int(match[2])) if match else None


def iso_time(seconds: float) -> str:
    """Return seconds since the epoch as the front end writes times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def human_step(identifier: str, text: str, created_at: float) -> Step:
    """Return the user's message."""
    return _step(identifier, None, "user_message", HUMAN, text, created_at)


def run_step(identifier: str, parent: str, created_at: float, *, ended: bool) -> Step:
    """Return the run below a user's message that holds the answer. The front end knows it by its name."""
    step = _step(identifier, parent, "run", "on_message", "", created_at)
    return step | {"end": iso_time(created_at) if ended else None}


def bot_step(identifier: str, run: str, text: str, created_at: float, *, streaming: bool = False) -> Step:
    """Return the answer."""
    return _step(identifier, run, "assistant_message", BOT, text, created_at) | {"streaming": streaming}


def notice_step(identifier: str, run: str, override: Override, created_at: float) -> Step:
    """Return the line above an answer that says that moderation overrode."""
    step = _step(identifier, run, "assistant_message", BOT, notice(override), created_at)
    return step | {"metadata": {"icon": "shield-alert"}}


def error_step(identifier: str, run: str, text: str, created_at: float) -> Step:
    """Return an error in the place of an answer."""
    return _step(identifier, run, "assistant_message", BOT, escaped(text), created_at) | {"isError": True}


def thread_steps(exchanges: Iterable[Exchange]) -> list[Step]:
    """Return a whole conversation as steps, oldest first."""
    return [step for exchange in exchanges for step in _exchange_steps(exchange)]


def _exchange_steps(exchange: Exchange) -> list[Step]:
    session, turn, at = exchange.session_id, exchange.turn, exchange.created_at
    human, run = step_id(session, turn, "human"), step_id(session, turn, "run")
    run_of_turn = run_step(run, human, at, ended=True)
    if exchange.rating:
        value = 1 if exchange.rating == "up" else 0
        run_of_turn["feedback"] = {
            "id": run,
            "forId": run,
            "value": value,
            "comment": exchange.comment or None,
        }
    steps = [human_step(human, exchange.human, at), run_of_turn]
    if exchange.override:
        steps.append(notice_step(step_id(session, turn, "notice"), run, exchange.override, at))
    steps.append(bot_step(step_id(session, turn, "bot"), run, answer_markdown(exchange), at))
    for step in steps:
        step["threadId"] = session
    return steps


def _step(identifier: str, parent: str | None, kind: str, name: str, text: str, created_at: float) -> Step:
    moment = iso_time(created_at)
    return {
        "id": identifier,
        "parentId": parent,
        "type": kind,
        "name": name,
        "output": text,
        "createdAt": moment,
        "start": moment,
        "end": moment,
        "streaming": False,
        "isError": False,
        "metadata": {},
    }
