"""Stop words, matched on the text of a reply as it streams, whatever the tokens' borders."""

from __future__ import annotations

from collections.abc import Sequence


class StopWordsCriteria:
    """Passes text through until a stop word is complete, and never shows a part of one.

    Text that could be the beginning of a stop word is held back until the next text decides. The
    word that is complete first ends the reply, the longest of those that end at the same place:
    the result does not depend on how the text was cut into pieces.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = tuple(word for word in words if word)
        self._longest = max(map(len, self._words), default=0)
        # Looked at for every token of every reply.
        self._beginnings = frozenset(word[:length] for word in self._words for length in range(1, len(word)))
        self._first = frozenset(word[0] for word in self._words)
        self._held = ""
        self.matched = False
        """Whether a stop word was found. Nothing is released from then on."""

    def feed(self, text: str) -> str:
        """Return what may be shown now that `text` has come."""
        if self.matched:
            return ""
        seen = self._held + text
        ends = [(at + len(word), at) for word in self._words if (at := seen.find(word)) >= 0]
        if ends:
            self.matched, self._held = True, ""
            return seen[: min(ends)[1]]
        cut = len(seen) - self._beginning(seen)
        self._held = seen[cut:]
        return seen[:cut]

    def flush(self) -> str:
        """Return what was held back, for a text that is known to be complete."""
        held, self._held = self._held, ""
        return held

    def _beginning(self, seen: str) -> int:
        """Return the length of the longest end of `seen` that begins a stop word."""
        for length in range(min(self._longest - 1, len(seen)), 0, -1):
            if seen[-length] in self._first and seen[-length:] in self._beginnings:
                return length
        return 0
