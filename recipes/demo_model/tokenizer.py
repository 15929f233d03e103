"""The byte-level BPE tokenizer, trained on generated dialogues.

Every byte is a token, so any UTF-8 text can be encoded. Digits stand alone: numbers are copied one
digit at a time, which a small model does without error.
"""

from __future__ import annotations

import json
import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from recipes.demo_model.corpus.dialogues import dialogue

END = "<|endoftext|>"
PAD = "<|padding|>"
VOCABULARY = 4096
SAMPLE = 20_000
"""Dialogues that the merges are learned from."""
PORTION = 1000
"""Dialogues of one seed; a worker makes so many at a time."""


def _texts(seed: int, number: int) -> list[str]:
    """Return dialogues as text, passages in both orders."""
    rng = random.Random(seed)
    examples = [dialogue(rng, ranked=0.5) for _ in range(number)]
    return [f"{example.prompt} {example.reply}" for example in examples]


def _sample(seed: int, number: int, workers: int) -> list[str]:
    """Return dialogues in an order that does not depend on the number of workers."""
    shares = [min(PORTION, number - first) for first in range(0, number, PORTION)]
    seeds = range(seed * 1000, seed * 1000 + len(shares))
    if workers == 1 or len(shares) == 1:
        made = [_texts(*pair) for pair in zip(seeds, shares, strict=True)]
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            made = list(pool.map(_texts, seeds, shares))
    return [text for texts in made for text in texts]


def train_tokenizer(seed: int = 11, sample: int = SAMPLE, workers: int = 1) -> PreTrainedTokenizerFast:
    """Return a tokenizer learned from `sample` dialogues, made by `workers` processes."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_sample(seed, sample, workers), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe,
        eos_token=END,
        bos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write `tokenizer.json` and its configuration."""
    tokenizer.save_pretrained(str(out))
    file = out / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"  # the name that older releases know too
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
