"""The thread that owns a model: continuous batching, a token for everybody at every step.

New requests join between two steps, finished and cancelled ones leave at once, and prompts are
prefilled in pieces, one piece between two steps: nobody waits for another's reply or prompt to
end. Requests beyond the slots wait in order of arrival and hold nothing.
"""

from __future__ import annotations

import logging
import queue
import threading
import traceback
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

import torch

from openchatkit.engines.batch import Batch, prefill_step
from openchatkit.engines.cache import BatchCache
from openchatkit.engines.forward import CausalModel
from openchatkit.engines.requests import (
    Codec,
    Generation,
    Mailbox,
    Prefill,
    Request,
    Result,
    deliver,
)
from openchatkit.engines.sampling import NO_TOKEN, choose_tokens
from openchatkit.engines.scoring import score_choices
from openchatkit.errors import EngineFailed, OpenChatKitError, OutOfMemory

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)


class Worker:
    """Runs requests on one model. All methods may be called from any thread.

    The constructor blocks until the model has run once.

    Args:
        slots: requests that are computed at once.
        end_of_text: tokens that end a reply.
        context_length: most tokens of a prompt and its reply together.
        prefill_tokens: tokens of a prompt between two steps of the running requests.
        threads: CPU threads of one operation; None leaves PyTorch's own choice.

    Raises:
        EngineFailed: the model does not run.
    """

    def __init__(
        self,
        model: CausalModel,
        tokenizer: Codec,
        *,
        slots: int,
        end_of_text: frozenset[int],
        context_length: int,
        prefill_tokens: int,
        threads: int | None,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._slots = slots
        self._end_of_text = end_of_text
        self._context_length = context_length
        self._prefill_tokens = prefill_tokens
        self._threads = threads
        self._inbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closing = False
        # From here on only the thread's own.
        self._waiting: deque[Request] = deque()
        self._prefilling: deque[tuple[Request, Prefill]] = deque()
        self._batch = Batch(model, slots)
        self._outbox: list[tuple[Mailbox, Result]] = []
        self._warm: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="openchatkit-engine", daemon=True)
        self._thread.start()
        try:
            self._warm.result()
        except Exception as error:
            raise EngineFailed("the model cannot be run by this engine") from error

    @property
    def active(self) -> int:
        """Requests that hold a slot."""
        return len(self._prefilling) + len(self._batch.requests)

    def submit(self, request: Request) -> None:
        """Take a request; its results go to its mailbox.

        Raises:
            EngineFailed: the engine is closed.
        """
        with self._lock:
            if self._closing:
                raise EngineFailed("the engine is closed")
            self._inbox.put(request)

    def cancel(self, request: Request) -> None:
        """Stop a request before its next step."""
        request.cancelled = True
        self._inbox.put(None)

    def close(self) -> None:
        """End the thread; what is pending fails. Blocks until it has ended."""
        with self._lock:
            self._closing = True
            self._inbox.put(None)
        self._thread.join()

    # --- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        if self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            try:
                self._warm_up()
            except Exception as error:  # noqa: BLE001 - it goes to whoever builds the engine
                self._warm.set_exception(error.with_traceback(None))
                return
            self._warm.set_result(None)
            while not self._closing:
                try:
                    self._turn()
                except Exception as error:  # noqa: BLE001 - a dead thread would leave everybody waiting
                    self._fail_all(error)
                self._flush()
        self._receive(block=False)
        self._fail_all(EngineFailed("the engine was closed"))
        self._flush()

    def _warm_up(self) -> None:
        """Run the model once: the first pass sets up libraries, and costs as much as several others."""
        length = min(self._prefill_tokens, self._context_length - 1)
        prefill = Prefill([0] * length)
        prefill_step(self._model, prefill, length)
        cache = BatchCache(1)
        cache.add(prefill.cache)

    def _turn(self) -> None:
        self._receive(block=not self._pending())
        self._drop_cancelled()
        self._admit()
        self._prefill()
        self._decode()

    def _pending(self) -> list[Request]:
        return [*self._waiting, *(request for request, _ in self._prefilling), *self._batch.requests]

    def _receive(self, *, block: bool) -> None:
        """Take what has come; with `block` wait until something has."""
        while True:
            try:
                request = self._inbox.get(block=block)
            except queue.Empty:
                return
            block = False
            if request is not None:
                self._waiting.append(request)

    def _drop_cancelled(self) -> None:
        for request in self._pending():
            if request.cancelled:
                self._remove(request)
                if isinstance(request, Generation):
                    self._post(request, request.cancellation())

    def _admit(self) -> None:
        while self._waiting and self.active < self._slots:
            request = self._waiting.popleft()
            try:
                self._prefilling.append((request, request.begin(self._tokenizer, self._context_length)))
            except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this request alone
                self._fail([request], error)

    def _prefill(self) -> None:
        """Compute a piece of the oldest prompt, and what follows it where it was the last piece."""
        if not self._prefilling:
            return
        request, prefill = self._prefilling[0]
        try:
            logits = prefill_step(self._model, prefill, self._prefill_tokens)
            if logits is None:
                return
            if isinstance(request, Generation):
                self._start(request, prefill, logits)
            else:
                self._post(request, score_choices(self._model, prefill, logits, request.choices))
                self._prefilling.popleft()
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this request alone
            self._fail([request], error)

    def _start(self, request: Generation, prefill: Prefill, logits: torch.Tensor) -> None:
        """Give a prefilled request its first token and its row in the batch."""
        (token,) = choose_tokens(logits, [request.sampler])
        if not self._take(request, token):
            self._batch.join(request, prefill)
        self._prefilling.popleft()

    def _decode(self) -> None:
        """Give every running request its next token."""
        running = list(self._batch.requests)
        if not running:
            return
        try:
            tokens = self._batch.step()
        except OUT_OF_MEMORY as error:
            # One has to go for the others to go on: the one that loses least.
            self._fail([min(running, key=lambda request: request.generated)], error)
            return
        except Exception as error:  # noqa: BLE001 - one forward pass serves all: it failed for all
            self._fail(running, error)
            return
        for request, token in zip(running, tokens, strict=True):
            try:
                if self._take(request, token):
                    self._batch.leave(request)
            except Exception as error:  # noqa: BLE001 - a text that cannot be decoded is one request's
                self._fail([request], error)

    def _take(self, request: Generation, token: int) -> bool:
        """Post what a token makes; True where it ends the reply."""
        if token == NO_TOKEN:
            raise EngineFailed("the model's logits are not numbers")
        chunk = request.accept(token, self._end_of_text)
        if chunk is None:
            return False
        self._post(request, chunk)
        return chunk.finish_reason is not None

    def _remove(self, request: Request) -> None:
        """Free what a request holds, wherever it stands."""
        if request in self._waiting:
            self._waiting.remove(request)
        for item in self._prefilling:
            if item[0] is request:
                self._prefilling.remove(item)
                break
        if request in self._batch.requests:
            self._batch.leave(request)

    def _fail_all(self, error: Exception) -> None:
        """End all requests, whatever state a step has left them in."""
        requests = self._pending()
        self._waiting.clear()
        self._prefilling.clear()
        self._batch.clear()
        self._fail(requests, error)

    def _fail(self, requests: Sequence[Request], error: Exception) -> None:
        """End requests with the error that stands for `error` on the wire."""
        frames = traceback.extract_tb(error.__traceback__)
        # The frames hold the failed step's tensors; and a message may quote a prompt.
        error = error.with_traceback(None)
        if not isinstance(error, OpenChatKitError):
            at = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown place"
            logger.error("%s at %s ends %d requests", type(error).__name__, at, len(requests))
        for request in requests:
            self._remove(request)
            self._post(request, _as_ours(error))
        if isinstance(error, OUT_OF_MEMORY):
            torch.cuda.empty_cache()

    def _post(self, request: Request, result: Result) -> None:
        self._outbox.append((request.mailbox, result))

    def _flush(self) -> None:
        posted, self._outbox = self._outbox, []
        deliver(posted)


def _as_ours(error: Exception) -> OpenChatKitError:
    """Return a new error for one request: a raised one collects the frames of whoever caught it."""
    if isinstance(error, OpenChatKitError):
        return type(error)(error.message)
    ours: OpenChatKitError
    if isinstance(error, OUT_OF_MEMORY):
        ours = OutOfMemory("the accelerator has no memory left for this request")
    else:
        ours = EngineFailed("the model failed while it computed the reply")
    ours.__cause__ = error
    return ours
