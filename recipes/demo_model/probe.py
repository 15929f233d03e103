"""How a model in training does on the questions of `natural_dev2.jsonl`, in one forward pass.

A greedy reply equals the wanted one exactly where, with that reply fed to the model, each of its tokens is
the likeliest at its place. So one pass over packed rows tells the share of right replies without
generating any. It is stricter than `evaluate.py`: another sentence that holds the answer counts as wrong.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

from openchatkit.prompt import neutralise_passage
from recipes.demo_model.corpus.dialogues import NO_PASSAGE, NOT_FOUND
from recipes.demo_model.evaluate import HERE, natural_cases
from recipes.demo_model.model import packed_logits
from recipes.demo_model.stream import LONGEST

FILE = HERE / "natural_dev2.jsonl"
ROW = 8192
"""Most tokens of a forward pass on a GPU."""
CPU_ROW = 1024
"""On a CPU the mask of a row is as large as its square."""


def wanted_replies(path: Path) -> list[str]:
    """Return the reply to each row of a file: its evidence with the citation, or that there is none."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        f"{neutralise_passage(row['evidence'])} [{row['passage']}]"
        if row["passage"]
        else NOT_FOUND
        if row["passages"]
        else NO_PASSAGE
        for row in rows
    ]


class Probe:
    """The questions as tokens, packed once, and the share of them that a model gets right."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, device: str, path: Path = FILE) -> None:
        self.device = device
        cases, replies = natural_cases(path), wanted_replies(path)
        self.rows: list[list[tuple[list[int], int, bool]]] = [[]]
        size = 0
        for case, reply in zip(cases, replies, strict=True):
            prompt = tokenizer.encode(case.prompt)
            ids = [*prompt, *tokenizer.encode(f" {reply}"), tokenizer.eos_token_id]
            if len(ids) > LONGEST:
                continue
            if self.rows[-1] and size + len(ids) > (ROW if device == "cuda" else CPU_ROW):
                self.rows.append([])
                size = 0
            self.rows[-1].append((ids, len(prompt), bool(case.cited)))
            size += len(ids)

    @torch.no_grad()
    def shares(self, model: GPTNeoXForCausalLM) -> dict[str, float]:
        """Return the shares of answerable questions answered and of the others declined, in [0, 1]."""
        right: dict[bool, list[bool]] = {True: [], False: []}
        for row in self.rows:
            ids = torch.tensor([token for tokens, _, _ in row for token in tokens], device=self.device)
            lengths = [len(tokens) for tokens, _, _ in row]
            positions = torch.cat([torch.arange(length) for length in lengths]).to(self.device)
            ends = torch.tensor(lengths).cumsum(0)
            starts = torch.cat([torch.zeros(1, dtype=torch.int64), ends]).to(self.device, torch.int32)
            with torch.autocast("cuda", torch.bfloat16, enabled=self.device == "cuda"):
                likeliest = packed_logits(model, ids, positions, starts).argmax(-1)
            hits = (likeliest[:-1] == ids[1:]).tolist()
            first = 0
            for tokens, prompt, answerable in row:
                right[answerable].append(all(hits[first + prompt - 1 : first + len(tokens) - 1]))
                first += len(tokens)
        answered, declined = (sum(right[key]) / max(1, len(right[key])) for key in (True, False))
        return {"answered": round(answered, 4), "declined": round(declined, 4)}
