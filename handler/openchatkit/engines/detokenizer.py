"""Tokens to text, one token at a time.

A token alone has no text: a character may be spread over several byte-level tokens, and
SentencePiece drops the blank before a first word. So tokens are decoded together with those that
came before, and only what the earlier ones did not show yet is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

CONTEXT_TOKENS = 5
"""Tokens of the prompt that are decoded along with the first ones of the reply."""

MAX_HELD_TOKENS = 8
"""Tokens without a whole character after which their bytes count as broken: a character has at
most four bytes and a token at least one, the rest is slack."""

REPLACEMENT = "\ufffd"
"""What a decoder shows for bytes that are no character, or not yet one."""


class Decoder(Protocol):
    """What is needed of a tokenizer here."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        ...


class IncrementalDetokenizer:
    """The text of one reply.

    Bytes that never become a character are dropped: the replacement character is never shown.
    """

    def __init__(self, decoder: Decoder, prompt: Sequence[int]) -> None:
        self._decoder = decoder
        self._context = list(prompt[-CONTEXT_TOKENS:])
        self._context_text = decoder.decode(self._context)
        self._held: list[int] = []

    def feed(self, token: int) -> str:
        """Return the text that `token` completes; empty while a character is incomplete."""
        self._held.append(token)
        text = self._decoder.decode([*self._context, *self._held])
        if len(text) > len(self._context_text) and not text.endswith(REPLACEMENT):
            self._context, self._held = self._held, []
            new = text[len(self._context_text) :]
            self._context_text = self._decoder.decode(self._context)
            return new.replace(REPLACEMENT, "")
        return self._give_up() if len(self._held) > MAX_HELD_TOKENS else ""

    def flush(self) -> str:
        """Return the whole characters that are held back, for a reply that ends here."""
        return self._give_up() if self._held else ""

    def _give_up(self) -> str:
        text = self._decoder.decode([*self._context, *self._held])
        # No context from here on: broken bytes in it would change their text with what follows.
        new, self._context, self._held = text[len(self._context_text) :], [], []
        self._context_text = ""
        return new.replace(REPLACEMENT, "")
