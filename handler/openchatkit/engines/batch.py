"""The computation of one step at a time: a piece of a prefill, a token for every running request.

Nothing here knows of threads or event loops; `worker.py` calls it between two looks at its inbox.
"""

from __future__ import annotations

import torch

from openchatkit.engines.cache import BatchCache
from openchatkit.engines.forward import CausalModel
from openchatkit.engines.requests import Generation, Prefill
from openchatkit.engines.sampling import choose_tokens


def prefill_step(model: CausalModel, prefill: Prefill, max_tokens: int) -> torch.Tensor | None:
    """Put at most `max_tokens` further tokens of a prompt into its cache.

    Returns:
        The logits after the whole prompt, shape `(1, vocabulary)`; None while there is more of it.
    """
    start = prefill.done
    piece = prefill.tokens[start : start + max_tokens]
    tokens = torch.tensor([piece], device=model.device)
    positions = torch.arange(start, start + len(piece), device=model.device).unsqueeze(0)
    logits = model(tokens, positions, prefill.cache)
    prefill.done += len(piece)
    return logits if prefill.done == len(prefill.tokens) else None


class Batch:
    """The running requests. Each step gives every one of them its next token."""

    def __init__(self, model: CausalModel, max_requests: int) -> None:
        self._model = model
        self._cache = BatchCache(max_requests)
        self.requests: list[Generation] = []

    def join(self, request: Generation, prefill: Prefill) -> None:
        """Add a request whose prompt is prefilled; on an error nothing has changed."""
        self._cache.add(prefill.cache)
        self.requests.append(request)

    def leave(self, request: Generation) -> None:
        """Drop a request and what it holds; another may change its row."""
        row = self.requests.index(request)
        self._cache.remove(row)
        last = self.requests.pop()
        if last is not request:
            self.requests[row] = last

    def clear(self) -> None:
        """Drop all requests and the memory."""
        self.requests.clear()
        self._cache.clear()

    def step(self) -> list[int]:
        """Return the next token of each request; on an error the batch is as before."""
        cache, device = self._cache, self._model.device
        cache.reserve()
        tokens = torch.tensor([[request.last_token] for request in self.requests], device=device)
        positions = torch.tensor([[length] for length in cache.lengths], device=device)
        logits = self._model(tokens, positions, cache, mask=cache.mask(device))
        chosen = choose_tokens(logits, [request.sampler for request in self.requests])
        cache.commit()
        return chosen
