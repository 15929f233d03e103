"""The models of the bench: the right shapes, random weights, and a tokenizer of the right size.

Speed depends on shapes, not on what weights say, so nothing has to be downloaded: a folder holds a
configuration and a tokenizer, and the weights are made where they are computed. The tokenizer is
trained on this repository's documents, the judge's own frame and the Python files of the interpreter's
standard library: as in the real models, a common word and a word of a label is one token.
"""

from __future__ import annotations

import itertools
import random
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerFast

from openchatkit.moderation.label_scorer import frame

ROOT = Path(__file__).resolve().parents[2]
TRAINING_BYTES = 12_000_000
LARGEST_VOCABULARY = 50_400
"""Models of more than that have some tokens that no text has, as GPT-NeoX itself."""
WORDS_FROM = ROOT / "docs" / "architecture.md"
PROSE_TIMES, FRAME_TIMES = 20, 2000
"""How often they are read, so that their words become tokens before rarer ones of the rest."""


@dataclass(frozen=True)
class Shape:
    """A model's architecture and sizes."""

    architecture: str
    layers: int
    hidden: int
    heads: int
    vocabulary: int
    context: int = 2048
    rotary_dim: int = 64

    @property
    def parameters(self) -> int:
        """Weights of the matrices, the output's included; the embedding is only looked up."""
        return self.layers * 12 * self.hidden**2 + self.vocabulary * self.hidden

    def config(self) -> PretrainedConfig:
        """Return transformers' configuration."""
        sizes: dict[str, Any] = {
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "max_position_embeddings": self.context,
            "bos_token_id": 0,
            "eos_token_id": None,
            "tie_word_embeddings": False,
        }
        if self.architecture == "gpt_neox":
            sizes["intermediate_size"] = 4 * self.hidden
        else:
            sizes["rotary_dim"] = self.rotary_dim
        config: PretrainedConfig = AutoConfig.for_model(self.architecture, **sizes)
        return config


CHAT = Shape("gpt_neox", 44, 6144, 64, 50432)
"""GPT-NeoXT-Chat-Base-20B."""
JUDGE = Shape("gptj", 28, 4096, 16, 50400)
"""GPT-JT-Moderation-6B."""
TINY_CHAT = Shape("gpt_neox", 2, 128, 4, 1024)
TINY_JUDGE = Shape("gptj", 2, 128, 4, 1024, rotary_dim=16)
"""vLLM's attention on a CPU has no kernel for heads of less than 32."""


def write(shape: Shape, folder: Path) -> Path:
    """Write a model's configuration and tokenizer, without weights, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = shape.config()
    config.architectures = ["GPTNeoXForCausalLM" if shape.architecture == "gpt_neox" else "GPTJForCausalLM"]
    config.dtype = "float16"
    config.save_pretrained(str(folder))
    tokenizer_of(shape.vocabulary).save_pretrained(str(folder))
    return folder


_trained: dict[int, PreTrainedTokenizerFast] = {}


def tokenizer_of(vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer of at most so many tokens. No token ends a text."""
    vocabulary = min(vocabulary, LARGEST_VOCABULARY)
    if vocabulary not in _trained:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        texts = itertools.chain(_prose(), _python_files(TRAINING_BYTES * vocabulary // CHAT.vocabulary))
        tokenizer.train_from_iterator(texts, trainer)
        _trained[vocabulary] = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=tokenizer
        )
    return _trained[vocabulary]


def _prose() -> Iterator[str]:
    for path in sorted((ROOT / "docs").rglob("*.md")):
        yield from itertools.repeat(path.read_text(encoding="utf-8"), PROSE_TIMES)
    yield from itertools.repeat(frame("", ""), FRAME_TIMES)


def _python_files(most: int) -> Iterator[str]:
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*/*.py")):
        if most <= 0:
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        most -= len(text)
        yield text


@cache
def _words() -> tuple[str, ...]:
    return tuple(sorted(set(re.findall(r"\b[a-z]{2,10}\b", WORDS_FROM.read_text(encoding="utf-8")))))


class Texts:
    """Text that says nothing, in sentences of English words, as different as the seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._words = _words()

    def sentence(self) -> str:
        """Return 8 to 14 words."""
        words = self._random.choices(self._words, k=self._random.randint(8, 14))
        return " ".join(words).capitalize() + "."

    def words(self, number: int) -> str:
        """Return sentences of so many words together."""
        found: list[str] = []
        while len(found) < number:
            found += self.sentence().split()
        return " ".join(found[:number])

    def prompt(self, tokens: int, tokenizer: PreTrainedTokenizerFast) -> list[int]:
        """Return exactly so many tokens."""
        ids: list[int] = tokenizer(self.words(tokens), verbose=False)["input_ids"]
        assert len(ids) >= tokens  # a word has one token at least
        return ids[:tokens]
