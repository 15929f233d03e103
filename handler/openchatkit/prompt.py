"""Turns to text and back: the prompt of one turn, within the model's token budget.

Pure functions: no model, no clock, no I/O. Two formats:

* `openchatkit`, the one GPT-NeoXT-Chat-Base-20B was trained on (`<human>: ...`, `<bot>: ...`);
* `chat_template`, messages for a tokenizer that carries a chat template of its own.

Passages stand after the history, right before the question. Everything above them is then the
same text from turn to turn, which is what an engine's prefix cache needs.

What a user or a document writes can never open a turn or number a passage: `neutralise` rewrites
role tags and `neutralise_passage` bracketed numbers as well.

    Today is 22 November 2026. You are ...

    <human>: an earlier question
    <bot>: its answer
    Passages:
    [1] Title (2026-02-14)
    text of the passage
    <human>: the question
    <bot>:
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

HUMAN_TAG = "<human>:"
BOT_TAG = "<bot>:"
PASSAGES_HEAD = "Passages:"
STOP_WORDS = (HUMAN_TAG, BOT_TAG, f"\n{PASSAGES_HEAD}\n[1] ")
"""Text that ends a reply: the model has begun to write somebody's next turn, or passages of its own."""

DEFAULT_PREAMBLE = (
    "You are OpenChatKit, a helpful assistant. Answer from the numbered passages and cite their "
    "numbers like [1]. If they do not hold the answer, say so."
)

# Zero-width and bidirectional marks inside a tag would hide it from a plain search while a
# tokenizer's normaliser may drop them again.
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\u202a-\u202e\u2066-\u2069"
_GAP = rf"[\s{_INVISIBLE}]*"
_ROLES = "|".join(_GAP.join(role) for role in ("human", "bot"))
_ROLE_TAG = re.compile(rf"[<＜‹〈⟨]{_GAP}({_ROLES}){_GAP}[>＞›〉⟩]", re.IGNORECASE)
# `<|endoftext|>` and its kin: a tokenizer turns them into special tokens wherever they stand.
_SPECIAL_TOKEN = re.compile(r"<(?=\|)|(?<=\|)>")
_UNWANTED_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")
_BRACKETED_NUMBER = re.compile(r"\[(\s*\d+\s*)\]")
_BLANK = re.compile(r"\s+")

KEPT_SHARE = 2 / 3
"""Of the turns that fit, by their text, so much at least is kept where older ones must go."""


class Exchange(Protocol):
    """One earlier turn: what the human asked, what the bot released."""

    @property
    def human(self) -> str:
        """The human's text."""
        ...

    @property
    def bot(self) -> str:
        """The bot's reply."""
        ...


class NumberedExchange(Exchange, Protocol):
    """An earlier turn that knows its place."""

    @property
    def number(self) -> int:
        """Its number in the conversation, from 1; it never changes."""
        ...


class PassageText(Protocol):
    """What of a passage stands in a prompt."""

    @property
    def title(self) -> str:
        """Title of the document."""
        ...

    @property
    def date(self) -> str | None:
        """ISO date of the document."""
        ...

    @property
    def text(self) -> str:
        """The passage itself."""
        ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt and what of the request went into it."""

    text: str
    tokens: int
    turns: int
    """How many of the history's newest turns are in the text."""
    passages: int
    """How many of the passages, from the first, are in the text."""


class PromptTooLong(ValueError):
    """The question alone does not fit the token budget."""


def neutralise(text: str) -> str:
    """Return `text` with role tags and special tokens turned into harmless words.

    Control characters become blanks.
    """
    text = _SPECIAL_TOKEN.sub(" ", _UNWANTED_CONTROLS.sub(" ", text))
    return _ROLE_TAG.sub(lambda match: "(" + re.sub(_GAP, "", match.group(1)) + ")", text)


def neutralise_passage(text: str) -> str:
    """Return a passage's text on one line, with role tags and bracketed numbers defused.

    A passage that holds a line `[2] ...` could otherwise pose as another passage, and a footnote
    mark `[3]` that the model copies would read as a citation of ours.
    """
    return _BRACKETED_NUMBER.sub(r"(\1)", _BLANK.sub(" ", neutralise(text))).strip()


def render_preamble(preamble: str, today: datetime.date | None) -> str:
    """Return the first paragraph of a prompt: the date, if given, and the instructions."""
    date = f"Today is {today.day} {today:%B %Y}." if today else ""
    return " ".join(part for part in (date, preamble.strip()) if part)


def render_passages(passages: Sequence[PassageText]) -> str:
    """Return the numbered block of passages, empty where there are none."""
    lines = []
    for number, passage in enumerate(passages, start=1):
        title = neutralise_passage(passage.title)
        dated = f"{title} ({passage.date})" if passage.date else title
        lines += [f"[{number}] {dated}", neutralise_passage(passage.text)]
    return "\n".join([PASSAGES_HEAD, *lines]) if lines else ""


def render_turn(human: str, bot: str | None, passages: Sequence[PassageText] = ()) -> str:
    """Return one turn as text. With `bot` None it ends at the bot's tag, where generation begins.

    There is no blank behind the last `<bot>:`. Byte-level vocabularies put the blank into the
    next token; one that stands in the prompt already leads the model off its training text.
    """
    block = render_passages(passages)
    head = f"{block}\n" if block else ""
    tail = "" if bot is None else f" {neutralise(bot).strip()}"
    return f"{head}{HUMAN_TAG} {neutralise(human).strip()}\n{BOT_TAG}{tail}"


def render_prompt(
    question: str,
    *,
    preamble: str,
    history: Sequence[Exchange] = (),
    passages: Sequence[PassageText] = (),
) -> str:
    """Return the whole prompt in the `openchatkit` format, without regard to its length."""
    turns = [render_turn(turn.human, turn.bot) for turn in history]
    turns.append(render_turn(question, None, passages))
    body = "\n".join(turns)
    return f"{preamble}\n\n{body}" if preamble else body


def render_messages(
    question: str,
    *,
    preamble: str,
    history: Sequence[Exchange] = (),
    passages: Sequence[PassageText] = (),
) -> list[dict[str, str]]:
    """Return the prompt as chat messages, for a tokenizer with a chat template of its own."""
    messages = [{"role": "system", "content": preamble}] if preamble else []
    for turn in history:
        messages.append({"role": "user", "content": neutralise(turn.human)})
        messages.append({"role": "assistant", "content": neutralise(turn.bot)})
    block = render_passages(passages)
    asked = neutralise(question).strip()
    messages.append({"role": "user", "content": f"{block}\n\n{asked}" if block else asked})
    return messages


def fit_prompt(
    question: str,
    *,
    preamble: str,
    history: Sequence[NumberedExchange],
    passages: Sequence[PassageText],
    budget: int,
    render: Callable[[str, str, Sequence[Exchange], Sequence[PassageText]], str],
    count_tokens: Callable[[str], int],
) -> Prompt:
    """Render a prompt that fits `budget` tokens.

    The oldest turns go first, whole turns and mostly several at a time (`_first_kept`); then the
    last passages; the question never.

    Args:
        history: the newest turns, oldest first; older ones may not have been loaded.
        render: `(question, preamble, history, passages) -> text`, one of the two formats.
        count_tokens: tokens of a text as the model will see it.

    Raises:
        PromptTooLong: the preamble and the question alone exceed the budget.
    """

    def attempt(turns: int, kept: int) -> Prompt:
        newest = history[len(history) - turns :]
        text = render(question, preamble, newest, passages[:kept])
        return Prompt(text, count_tokens(text), turns, kept)

    # Each try costs one tokenisation of the whole text, and mostly everything fits.
    kept = len(passages)
    best = attempt(len(history), kept)
    if best.tokens > budget:
        best = attempt(0, kept)
        while kept and best.tokens > budget:
            kept -= 1
            best = attempt(0, kept)
        if best.tokens > budget:
            raise PromptTooLong(f"the question needs {best.tokens} tokens, the budget is {budget}")
        # The newest turns that fit, by bisection.
        fitting, too_many = 0, len(history)
        while fitting + 1 < too_many:
            turns = (fitting + too_many) // 2
            prompt = attempt(turns, kept)
            if prompt.tokens <= budget:
                fitting, best = turns, prompt
            else:
                too_many = turns
    fewer = best.turns - _first_kept(history[len(history) - best.turns :])
    if fewer < best.turns:
        shorter = attempt(fewer, kept)
        best = shorter if shorter.tokens <= budget else best
    return best


def _first_kept(fitting: Sequence[NumberedExchange]) -> int:
    """Return where among the turns that fit a prompt its history begins.

    A history that begins where the last prompt's did is computed already (an engine's prefix cache).
    So of the turns that leave `KEPT_SHARE` of the text it is the one with the roundest number: counted
    from 0, the one divisible by the highest power of two. Few numbers are that round, so the turns
    that follow choose the same one until it no longer fits. Nothing but the turns' lengths and numbers
    decides: no state is kept, and how many older turns were loaded does not matter.
    """
    sizes = [len(turn.human) + len(turn.bot) for turn in fitting]
    left, allowed = sum(sizes), KEPT_SHARE * sum(sizes)
    roundest, best = 0, 0
    for place, turn in enumerate(fitting):
        index = turn.number - 1
        roundness = index & -index if index else 2**62
        if left < allowed:
            break
        if roundness > roundest:
            roundest, best = roundness, place
        left -= sizes[place]
    return best
