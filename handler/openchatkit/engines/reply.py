"""From pieces of text to chunks: stop words, what is held back for them, and tokens not yet reported.

Pure, and one for all engines: whoever computes, a reply is cut and counted in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from openchatkit.engines.stop_words import StopWordsCriteria
from openchatkit.ports import Chunk

FinishReason = Literal["stop", "length", "cancelled"]


class ReplyAssembler:
    """The chunks of one reply."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = StopWordsCriteria(stop)
        self._unreported = 0

    def push(self, text: str, tokens: int, ended: FinishReason | None = None) -> Chunk | None:
        """Return the chunk that `text` makes, None where all of it is held back.

        Args:
            text: whole characters only.
            tokens: how many made it, those whose text is still to come included.
            ended: why the model ends here. A stop word in `text` comes before that.
        """
        self._unreported += tokens
        shown = self._stop.feed(text)
        if self._stop.matched:
            return self._chunk(shown, "stop")
        if ended == "stop":
            # The text is complete: what looked like the beginning of a stop word is none.
            return self._chunk(shown + self._stop.flush(), ended)
        if ended is not None:
            # What is held back may be the beginning of a stop word: it is not shown.
            return self._chunk(shown, ended)
        return self._chunk(shown) if shown else None

    def _chunk(self, text: str, finish_reason: FinishReason | None = None) -> Chunk:
        tokens, self._unreported = self._unreported, 0
        return Chunk(text, tokens, finish_reason)
