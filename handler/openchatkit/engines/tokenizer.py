"""A tokenizer of transformers as the port `Tokenizer`, and what the engine itself needs of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase

PROMPTS = 64
"""That are remembered: a prompt is counted when it is made and encoded when it is computed."""
CONTINUATIONS = 64
"""That are remembered, each with the line before it."""


class HuggingFaceTokenizer:
    """Counts and encodes a prompt in one and the same way. May be used from several threads."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        special = {str(token) for token in tokenizer.all_special_tokens}
        special |= {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        self._prompt = functools.lru_cache(PROMPTS)(self._encode_prompt)
        self._continuation = functools.lru_cache(CONTINUATIONS)(self._encode_continuation)
        self._special = sorted(filter(None, special), key=len, reverse=True)

    def count(self, text: str) -> int:
        """Return the number of tokens of `text`, special tokens that the model adds included."""
        return len(self._prompt(text))

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a prompt, special tokens that the model adds included.

        A text that begins with the first special token already, as chat templates write it, gets
        no second one.
        """
        return list(self._prompt(text))

    def _encode_prompt(self, text: str) -> tuple[int, ...]:
        first = self._tokenizer.bos_token
        add = not (first and text.startswith(str(first)))
        # verbose: no warning for a text beyond the context; the engine refuses it by itself.
        return tuple(self._tokenizer(text, add_special_tokens=add, verbose=False)["input_ids"])

    def encode_continuation(self, text: str, continuation: str) -> list[int]:
        """Return the tokens that continue the tokens of `text`, without special ones."""
        # No token spans a line's beginning in the vocabularies of the models in question, and the last
        # line of a long prompt is short: it is encoded instead of the whole, twice for each choice. The
        # same few choices follow the same line all the time.
        return list(self._continuation(text[text.rfind("\n") + 1 :] or text, continuation))

    def _encode_continuation(self, text: str, continuation: str) -> list[int]:
        before, both = list(self._encode_prompt(text)), list(self._encode_prompt(text + continuation))
        if both[: len(before)] == before:
            return both[len(before) :]
        # A token spans the border, which generation from `text` cannot produce either.
        tokens: list[int] = self._tokenizer(continuation, add_special_tokens=False)["input_ids"]
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; special tokens have none."""
        text = self._tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str)
        return text

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return messages as one prompt that ends where the reply begins.

        Special tokens that a message spells out are broken up: only the template opens turns.

        Raises:
            ValueError: the model has no chat template.
        """
        if not self._tokenizer.chat_template:
            raise ValueError("the model's tokenizer has no chat template")
        plain = [
            {key: self._defused(value) if key == "content" else value for key, value in message.items()}
            for message in messages
        ]
        prompt = self._tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
        assert isinstance(prompt, str)
        return prompt

    def _defused(self, text: str) -> str:
        for token in self._special:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text
