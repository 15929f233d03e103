"""A judge over any causal language model: the five labels scored as continuations of a prompt.

The frame is the one GPT-JT-Moderation-6B was trained on: the numbered `Possible labels:`, then
`Input:` / `Output:` pairs, the last output open. The labels are the choices of `Engine.score`;
nothing is ever generated, so the answer cannot be anything but a label.

The judged text is data. `escape` puts it on one line and rewords whatever could be read as a part of
the frame, so the prompt holds the frame's own words exactly as often as the empty frame does.
Texts longer than a window are judged in overlapping windows; the worst verdict counts.
"""

from __future__ import annotations

import re

from openchatkit.errors import ModerationUnavailable, OpenChatKitError
from openchatkit.moderation.disguise import clean, latinise, unmix
from openchatkit.moderation.labels import LABELS, verdict_from_scores, worst
from openchatkit.moderation.segments import segments
from openchatkit.ports import Engine, Verdict
from openchatkit.tasks import all_of

WINDOW_CHARACTERS = 1_200
WINDOW_OVERLAP = 200
CONTEXT_CHARACTERS = 400
"""Of the human's text, before each window of a reply."""
MAX_WINDOWS = 32
"""More than the longest text of `wire.py` gives; beyond it the text is refused, not judged in part."""
WINDOWS_AT_ONCE = 8
SHARPNESS = 2.0
"""Power of the engine's probabilities. They are means over the tokens that tell a label from others, at
most two (`needs`, then `caution` or `intervention`): the square undoes the mean's flattening. The order
stays the same."""

FRAME_LABELS = tuple(sorted(LABELS))
"""In the order of the model's training, which is the alphabet's."""

_EXAMPLES = (
    ("Good morning! Could you recommend a book about sailing?", "casual"),
    ("How do I stop a program that hangs on my computer?", "casual"),
    ("I argued with my sister and now I can't sleep.", "possibly needs caution"),
    ("May I halve the dose of my heart tablets by myself?", "probably needs caution"),
    ("People from over there are all liars, don't let them in.", "needs caution"),
    ("Which poison would kill my aunt without anyone noticing?", "needs intervention"),
    ("User: Is my flat warm enough for a baby? Bot: Around 20 degrees is fine, I would say.", "casual"),
    ("User: My brother owes me money. Bot: Wait for him at night and break his arm.", "needs intervention"),
)

_LOOKS = {"o": "[o0]", "i": "[i1l!|]", "a": "[a4@]", "e": "[e3]", "s": "[s5$]", "l": "[l1|]", "t": "[t7]"}
"""Signs and digits that stand for letters."""
_GAP = r"[\W_]{0,3}"
_COLON = "[:=：﹕︰꞉ː∶։׃܃܄˸]"
_FRAME_WORDS = (
    "possible labels",
    "possible label",
    "labels",
    "label",
    "input",
    "output",
    "user",
    "bot",
    "human",
)


def _spaced(word: str) -> str:
    """Return a pattern for a word with digits for letters and signs between them."""
    return _GAP.join(_LOOKS.get(letter, letter) for letter in word if letter != " ")


# `Output:` in all its disguises; the letter before must not belong to the same word.
_FRAME_WORD = re.compile(
    rf"(?<![^\W_])({'|'.join(map(_spaced, _FRAME_WORDS))})\s*[)\]>*\"'’]*\s*{_COLON}+", re.IGNORECASE
)
_LABEL_WORDS = tuple(
    (re.compile(rf"(?<![^\W_]){pattern}", re.IGNORECASE), plain)
    for pattern, plain in (
        (f"{_spaced('needs')}{_GAP}{_spaced('caution')}", "calls for care"),
        (f"{_spaced('needs')}{_GAP}{_spaced('intervention')}", "calls for action"),
        (rf"{_spaced('casual')}(?![^\W_])", "informal"),
    )
)
_WORD = re.compile(r"[^\W_]+")
_RESERVED = frozenset(word for phrase in (*LABELS, *_FRAME_WORDS) for word in phrase.split())


def escape(text: str) -> str:
    """Return `text` on one line, with nothing in it that could be read as a part of the frame.

    What a reader understands stays: `Output:` becomes `output -`, the labels become words of the same
    meaning. Calling it twice changes nothing more.
    """
    text = unmix(clean(text))
    if not text.isascii():
        # A word wholly of another script is left alone unless it only exists to look like ours.
        text = _WORD.sub(_disclosed, text)
    text = _FRAME_WORD.sub(_without_colon, text)
    for pattern, words in _LABEL_WORDS:
        text = pattern.sub(words, text)
    return text


def _disclosed(match: re.Match[str]) -> str:
    latin = latinise(match.group())
    return latin if latin.lower() in _RESERVED else match.group()


def _without_colon(match: re.Match[str]) -> str:
    return re.sub(r"[\W_]+", "", match.group(1)).lower() + " -"


def frame(human: str, bot: str | None = None) -> str:
    """Return the prompt that asks for the label of a human's text, or of a reply in its context.

    It ends behind the last `Output:`; the labels continue it with a blank before them.
    """
    numbered = [f"{number}. {label}" for number, label in enumerate(FRAME_LABELS, start=1)]
    pairs = [f"Input: {text}\nOutput: {label}" for text, label in _EXAMPLES]
    judged = escape(human) if bot is None else f"User: {escape(human)} Bot: {escape(bot)}"
    return "\n\n".join(["\n".join(["Possible labels:", *numbered]), *pairs, f"Input: {judged}\nOutput:"])


def prompts(human: str, bot: str | None = None) -> list[str]:
    """Return the prompts of all windows of a text.

    Raises:
        ModerationUnavailable: there are more than `MAX_WINDOWS`.
    """
    windows = segments(escape(human if bot is None else bot), WINDOW_CHARACTERS, WINDOW_OVERLAP) or [""]
    if len(windows) > MAX_WINDOWS:
        raise ModerationUnavailable("the text is too long to be judged")
    if bot is None:
        return [frame(window) for window in windows]
    context = escape(human)[-CONTEXT_CHARACTERS:]
    return [frame(context, window) for window in windows]


class LabelScorer:
    """A `Moderator` over the `score` of an engine, e.g. one with GPT-JT-Moderation-6B."""

    def __init__(self, engine: Engine, *, sharpness: float = SHARPNESS) -> None:
        """
        Args:
            engine: the model.
            sharpness: see `SHARPNESS`.
        """
        self._engine = engine
        self._sharpness = sharpness

    async def judge(self, human: str, bot: str | None = None) -> Verdict:
        """Return the verdict on the worst window of the human's text, or of the bot's in its context.

        Raises:
            ModerationUnavailable: the engine failed or scored nonsense, or the text is too long.
        """
        asked = prompts(human, bot)
        verdicts: list[Verdict] = []
        for start in range(0, len(asked), WINDOWS_AT_ONCE):
            verdicts += await all_of(map(self._judge_one, asked[start : start + WINDOWS_AT_ONCE]))
        return worst(verdicts)

    async def _judge_one(self, prompt: str) -> Verdict:
        try:
            scores = await self._engine.score(prompt, [f" {label}" for label in FRAME_LABELS])
        except ModerationUnavailable:
            raise
        except (OpenChatKitError, ValueError, RuntimeError, MemoryError):
            # Not chained: another library's exception may quote the prompt.
            raise ModerationUnavailable("the moderation model failed") from None
        if len(scores) != len(FRAME_LABELS):
            raise ModerationUnavailable("the moderation model scored another number of labels")
        checked = verdict_from_scores(dict(zip(FRAME_LABELS, scores, strict=True)))
        sharp = {label: score**self._sharpness for label, score in checked.scores.items()}
        return verdict_from_scores({label: value / sum(sharp.values()) for label, value in sharp.items()})
