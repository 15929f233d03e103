"""How long a conversation's prompts keep their beginning, and how much history that costs.

    PYTHONPATH=handler python -m bench.kept_prefix

Conversations of 60 turns with made-up lengths (a word is a token), 0 to 3 passages a question, through
`prompt.fit_prompt` as it stands, for several shares of the history that must be kept: 1 drops turn by
turn. No model and no clock: the same numbers on every machine.
"""

from __future__ import annotations

import itertools
import json
import statistics
from dataclasses import dataclass
from random import Random

from openchatkit import prompt

TURNS = 60
CONVERSATIONS = 20
BUDGETS = (1792, 3840, 7936)
"""Contexts of 2,048, 4,096 and 8,192 tokens without 256 new ones."""
SHARES = (1.0, 3 / 4, 2 / 3, 1 / 2)


@dataclass(frozen=True, slots=True)
class Said:
    """A turn of made-up words."""

    human: str
    bot: str
    number: int


@dataclass(frozen=True, slots=True)
class Text:
    """A passage of made-up words."""

    text: str
    title: str = "Report"
    date: str | None = None


def words(random: Random, fewest: int, most: int) -> str:
    """Return some words; two texts are hardly ever alike."""
    return " ".join(f"w{random.randrange(10_000)}" for _ in range(random.randint(fewest, most)))


def prompts(random: Random, budget: int) -> list[prompt.Prompt]:
    """Return the prompts of one conversation."""
    history: list[Said] = []
    made = []
    for number in range(1, TURNS + 1):
        question = words(random, 10, 60)
        fitted = prompt.fit_prompt(
            question,
            preamble=prompt.DEFAULT_PREAMBLE,
            history=history,
            passages=[Text(words(random, 60, 160)) for _ in range(random.randint(0, 3))],
            budget=budget,
            render=lambda asked, preamble, turns, passages: prompt.render_prompt(
                asked, preamble=preamble, history=turns, passages=passages
            ),
            count_tokens=lambda text: len(text.split()),
        )
        made.append(fitted)
        history.append(Said(question, words(random, 30, 260), number))
    return made


def common(before: str, after: str) -> float:
    """Return the share of a prompt's words that the one before begins with as well."""
    pairs = zip(before.split(), after.split(), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)) / len(after.split())


def measure(budget: int, share: float) -> dict[str, float]:
    """Return the figures of one budget and one share, means over the conversations."""
    prompt.KEPT_SHARE = share
    changes, reused, tokens = [], [], []
    for seed in range(CONVERSATIONS):
        made = prompts(Random(seed), budget)
        firsts = [place - fitted.turns for place, fitted in enumerate(made)]
        changes.append(sum(before != after for before, after in itertools.pairwise(firsts)))
        reused.append(statistics.mean(common(a.text, b.text) for a, b in itertools.pairwise(made)))
        tokens.append(statistics.mean(fitted.tokens for fitted in made))
    return {
        "budget": budget,
        "kept_share": round(share, 2),
        "changes": round(statistics.mean(changes), 1),
        "reused": round(statistics.mean(reused), 3),
        "prompt_tokens": round(statistics.mean(tokens)),
    }


def main() -> None:
    """Print the table, then one line of JSON."""
    rows = [measure(budget, share) for budget, share in itertools.product(BUDGETS, SHARES)]
    print("budget  share kept  new first turn  same as the prompt before  tokens a prompt")
    for row in rows:
        print(
            f"{row['budget']:6}  {row['kept_share']:10}  {row['changes']:7} of {TURNS - 1}"
            f"  {row['reused']:25.0%}  {row['prompt_tokens']:15}"
        )
    print(json.dumps({"bench": "kept_prefix", "rows": rows}))


if __name__ == "__main__":
    main()
