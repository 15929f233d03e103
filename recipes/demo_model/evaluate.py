"""Scores of a saved model: generated dialogues of new seeds, and questions another hand wrote.

    python -m recipes.demo_model.evaluate --model local/demo_model [--number 300] [--show dev]

`natural_test.jsonl` is for scoring alone: whoever writes templates never reads it. Its rows are
only counted here, never printed. `natural_dev2.jsonl` is the set to measure by: its passages are what
the handler's retrieval found, in its order. `natural_dev.jsonl` was read while templates were written.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import hashlib
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from openchatkit.prompt import DEFAULT_PREAMBLE, render_preamble, render_prompt
from recipes.demo_model.corpus.dialogues import NO_PASSAGE, NOT_FOUND, Dialogue, Turn, dialogue
from recipes.demo_model.corpus.scenes import Passage
from recipes.questions.bundles import alone

HERE = Path(__file__).resolve().parent
ORDERS = HERE / "natural_orders.json"
LONGEST_REPLY = 200
SEED = 90_001
WRONG = 99
"""A citation that no reply has."""


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt and what a good reply to it looks like."""

    prompt: str
    reply: str
    """The reply as trained; empty where only `cited` and `answers` are known."""
    cited: int
    answers: tuple[str, ...] = ()
    question: str = ""


@dataclass(slots=True)
class Tally:
    """Counts of one set."""

    answerable: int = 0
    cited: int = 0
    right: int = 0
    both: int = 0
    unanswerable: int = 0
    declined: int = 0
    misses: list[str] = field(default_factory=list)

    def scores(self) -> dict[str, float | int]:
        """Return shares and counts."""
        found: dict[str, float | int] = {}
        if self.answerable:
            found |= {
                "answerable": self.answerable,
                "citation": self.cited / self.answerable,
                "answer": self.right / self.answerable,
                "both": self.both / self.answerable,
            }
        if self.unanswerable:
            found |= {"unanswerable": self.unanswerable, "declined": self.declined / self.unanswerable}
        return {key: round(value, 4) for key, value in found.items()}


class Speaker:
    """A loaded model that replies greedily to many prompts at once."""

    def __init__(self, path: Path, device: str, batch: int) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(str(path))
        loaded: Any = AutoModelForCausalLM.from_pretrained(str(path), dtype=torch.float32)
        self.model = loaded.to(device).eval()
        self.device = device
        self.batch = batch

    @torch.inference_mode()
    def replies(self, prompts: list[str]) -> list[str]:
        """Return one reply a prompt, cut where a next turn would begin."""
        order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
        found = [""] * len(prompts)
        for first in range(0, len(order), self.batch):
            chosen = order[first : first + self.batch]
            packed = self.tokenizer([prompts[at] for at in chosen], return_tensors="pt", padding=True).to(
                self.device
            )
            packed.pop("token_type_ids", None)
            out = self.model.generate(**packed, max_new_tokens=LONGEST_REPLY, do_sample=False)
            texts = self.tokenizer.batch_decode(
                out[:, packed["input_ids"].shape[1] :], skip_special_tokens=True
            )
            for at, text in zip(chosen, texts, strict=True):
                found[at] = text.split("\n<human>:")[0].split("<human>:")[0].strip()
        return found


def is_decline(reply: str) -> bool:
    """Whether the reply says that nothing was found."""
    return reply.startswith((NOT_FOUND, NO_PASSAGE))


def search_order(rows: list[dict[str, Any]]) -> list[list[int]]:
    """Return for each row its passages' places as the bundled encoder ranks them, best first.

    That is how a search hands them to the model; the files have them in random order.
    """
    from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory
    from openchatkit.retrieval.splitter import split_sentences

    encoder = SentenceEncoder.load(bundled_minilm_directory())
    orders = []
    for row in rows:
        earlier = [turn["human"] for turn in row.get("history") or []]
        question = encoder.encode([" ".join([*earlier[-1:], row["question"]])])[0]
        scores = []
        for passage in row["passages"]:
            texts = [f"{passage['title']}. {one}" for one in split_sentences(passage["text"])]
            scores.append(float((encoder.encode(texts or [passage["title"]]) @ question).max()))
        orders.append(sorted(range(len(scores)), key=lambda place: -scores[place]))
    return orders


def kept_order(path: Path) -> list[list[int]]:
    """Return `search_order` of a file, from `natural_orders.json` where that is of the same file.

    A machine that trains has no encoder; `--orders` writes the file on one that has.
    """
    content = path.read_bytes()
    kept = json.loads(ORDERS.read_text(encoding="utf-8")).get(path.name, {}) if ORDERS.exists() else {}
    if kept.get("sha256") == hashlib.sha256(content).hexdigest():
        found: list[list[int]] = kept["orders"]
        return found
    return search_order([json.loads(line) for line in content.decode().splitlines()])


def keep_orders() -> None:
    """Write the search order of the natural questions whose passages stand in random order."""
    kept = {}
    for name in ("dev", "test"):
        path = HERE / f"natural_{name}.jsonl"
        kept[path.name] = {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "orders": kept_order(path),
        }
    ORDERS.write_text(json.dumps(kept) + "\n", encoding="utf-8")


def natural_cases(path: Path, *, searched: bool = False) -> list[Case]:
    """Return the questions of a file that another hand wrote; `searched` orders their passages."""
    cases = []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row, order in zip(rows, kept_order(path) if searched else [], strict=False):
        row["passages"] = [row["passages"][place] for place in order]
        row["passage"] = order.index(row["passage"] - 1) + 1 if row["passage"] else None
    preamble = render_preamble(DEFAULT_PREAMBLE, datetime.date(2026, 11, 22))
    for row in rows:
        passages = [Passage(p["title"], p.get("date"), p["text"]) for p in row["passages"]]
        history = [Turn(turn["human"], turn["bot"]) for turn in row.get("history") or []]
        prompt = render_prompt(row["question"], preamble=preamble, history=history, passages=passages)
        cases.append(Case(prompt, "", row["passage"] or 0, tuple(row["answer"] or ()), row["question"]))
    return cases


class Served:
    """What the local chatbot would show of a question's passages.

    The reranker reads every sentence, behind those that it leans on; the best one, if it is good enough, is
    all that the model gets.
    """

    def __init__(self) -> None:
        from local import defaults
        from openchatkit.retrieval.reranker import CrossEncoder

        self._reranker = CrossEncoder.load(str(defaults.RERANKER))
        self._least = defaults.RERANKER_MIN_SCORE

    def shown(
        self, question: str, history: Sequence[Turn], passages: Sequence[Passage], cited: int
    ) -> tuple[list[Passage], int]:
        """Return the passage that is shown, if one is, and the citation that would be right, 0 for none."""
        from openchatkit.ports import Passage as Found
        from openchatkit.retrieval.follow_up import follow_up_queries
        from openchatkit.retrieval.splitter import split_sentences

        pieces = [
            (place, Passage(passage.title, passage.date, text))
            for place, passage in enumerate(passages, start=1)
            for text in alone([sentence.strip() for sentence in split_sentences(passage.text)])
        ]
        query = follow_up_queries(question, [turn.human for turn in history])[-1]
        found = [Found("", "", piece.title, piece.text, 0.0) for _, piece in pieces]
        scores = asyncio.run(self._reranker.scores(query, found))
        best = max(range(len(scores)), key=scores.__getitem__, default=None)
        if best is None or scores[best] < self._least:
            return [], cited
        place, piece = pieces[best]
        # A wrong passage is the only one, and is called 1: no reply can be right.
        return [piece], 0 if not cited else 1 if place == cited else WRONG

    def natural_cases(self, path: Path) -> list[Case]:
        """Return the questions of a file that another hand wrote."""
        preamble = render_preamble(DEFAULT_PREAMBLE, datetime.date(2026, 11, 22))
        cases = []
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            history = [Turn(turn["human"], turn["bot"]) for turn in row.get("history") or []]
            passages = [Passage(one["title"], one.get("date"), one["text"]) for one in row["passages"]]
            shown, cited = self.shown(row["question"], history, passages, row["passage"] or 0)
            prompt = render_prompt(row["question"], preamble=preamble, history=history, passages=shown)
            cases.append(Case(prompt, "", cited, tuple(row["answer"] or ()), row["question"]))
        return cases

    def generated_cases(self, family: str, number: int, source: str) -> list[Case]:
        """Return generated questions; a reply is right that holds the sentence that answers."""
        preamble = render_preamble(DEFAULT_PREAMBLE, datetime.date(2026, 11, 22))
        cases = []
        for made in generated(family, number, source):
            question = question_of(made)
            shown, cited = self.shown(question, [], made.passages, made.cited)
            prompt = render_prompt(question, preamble=preamble, passages=shown)
            cases.append(Case(prompt, "", cited, (made.answer,) if made.answer else (), question))
        return cases


def generated(family: str, number: int, source: str = "") -> list[Dialogue]:
    """Return dialogues of seeds that training never uses."""
    return [dialogue(random.Random(f"{SEED}-{family}-{source}-{at}"), family, source) for at in range(number)]


def question_of(made: Dialogue) -> str:
    """Return the last question of a dialogue."""
    return made.prompt.rsplit("<human>:", 1)[1].removesuffix("<bot>:").strip()


def generated_cases(family: str, number: int, source: str = "") -> list[Case]:
    """Return generated dialogues with the very reply that is wanted."""
    return [
        Case(made.prompt, made.reply, made.cited, question=question_of(made))
        for made in generated(family, number, source)
    ]


def tally(cases: list[Case], replies: list[str]) -> Tally:
    """Return how many replies are right."""
    total = Tally()
    for case, reply in zip(cases, replies, strict=True):
        if not case.cited:
            good = reply == case.reply if case.reply else is_decline(reply)
            total.unanswerable += 1
            total.declined += good
        else:
            cited = reply.endswith(f"[{case.cited}]")
            found = any(answer.casefold() in reply.casefold() for answer in case.answers)
            right = reply.rsplit(" [", 1)[0] == case.reply.rsplit(" [", 1)[0] if case.reply else found
            good = cited and right
            total.answerable += 1
            total.cited += cited
            total.right += right
            total.both += good
        if not good:
            wanted = f"want [{case.cited}] {case.reply or case.answers}"
            total.misses.append(f"{case.question.strip()}\n    {wanted}\n    got  {reply}")
    return total


def evaluate(
    path: Path,
    device: str,
    number: int,
    batch: int,
    show: str = "",
    *,
    searched: bool = False,
    served: bool = False,
) -> dict[str, Any]:
    """Return the scores of all sets, and print each as it is done."""
    speaker = Speaker(path, device, batch)
    sets = {
        "seen": generated_cases("answered", number, "seen"),
        "held_out": generated_cases("answered", number, "held_out"),
        "stories": generated_cases("answered", number, "story"),
        "stories_held_out": generated_cases("answered", number, "story_held_out"),
        "stories_declined": generated_cases("declined", number // 2, "story"),
        "mixture": generated_cases("answered", number),
        "declined": generated_cases("declined", number // 2, "seen"),
        "held_out_declined": generated_cases("declined", number // 2, "held_out"),
        "follow_ups": generated_cases("follow", number // 2),
        "single_held_out": generated_cases("single", number, "held_out"),
        "small_talk": generated_cases("chat", number // 2),
        "no_passages": generated_cases("bare", number // 2),
        "no_passages_held_out": generated_cases("bare", number // 2, "held_out"),
        "odd_input": generated_cases("odd", number // 4),
    }
    behind = Served() if served else None
    for name in ("dev", "dev2", "test"):
        file = HERE / f"natural_{name}.jsonl"
        if file.exists():
            sets[f"natural_{name}"] = natural_cases(file)
            if searched and name != "dev2":
                sets[f"natural_{name}_searched"] = natural_cases(file, searched=True)
            if behind:
                sets[f"natural_{name}_served"] = behind.natural_cases(file)
    if behind:
        for source in ("seen", "held_out", "story", "story_held_out"):
            sets[f"{source}_served"] = behind.generated_cases("answered", number, source)
            sets[f"{source}_declined_served"] = behind.generated_cases("declined", number // 2, source)
    scores: dict[str, Any] = {}
    for name, cases in sets.items():
        start = time.perf_counter()
        total = tally(cases, speaker.replies([case.prompt for case in cases]))
        scores[name] = total.scores()
        print(f"{name:18} {scores[name]}  {time.perf_counter() - start:.1f} s", flush=True)
        if show and show in name and not name.startswith("natural_test"):
            print("\n".join(total.misses[:60]), flush=True)
    return scores


def main() -> None:
    """Score a model from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--orders", action="store_true", help="only write natural_orders.json anew")
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--show", default="")
    parser.add_argument("--searched", action="store_true", help="score with passages in search order as well")
    parser.add_argument("--served", action="store_true", help="score behind the local reranker as well")
    options = parser.parse_args()
    if options.orders:
        keep_orders()
        return
    if options.model is None:
        parser.error("--model is missing")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(
        json.dumps(
            evaluate(
                options.model,
                device,
                options.number,
                options.batch,
                options.show,
                searched=options.searched,
                served=options.served,
            )
        )
    )


if __name__ == "__main__":
    main()
