"""A moderator that fails closed: late, broken or talking nonsense, it is `ModerationUnavailable`.

Whatever goes wrong inside, the caller sees that one error with a text written here; another
library's exception may quote the judged text and is therefore named in the log by its type alone
and not chained. Nothing is remembered: the next call tries again, so recovery needs nobody.
"""

from __future__ import annotations

import asyncio

from openchatkit.errors import ModerationUnavailable
from openchatkit.moderation.counts import Counts
from openchatkit.moderation.labels import check_verdict
from openchatkit.ports import Moderator, Verdict


class ModerationModel:
    """A `Moderator` around another one, with a time limit and a check of every verdict."""

    def __init__(self, moderator: Moderator, *, timeout_s: float, counts: Counts | None = None) -> None:
        self._moderator = moderator
        self._counts = counts or Counts()
        self._timeout_s = timeout_s
        self._running: set[asyncio.Task[Verdict]] = set()

    async def judge(self, human: str, bot: str | None = None) -> Verdict:
        """Return a checked verdict.

        Raises:
            ModerationUnavailable: within `timeout_s` at the latest, whatever the inner moderator does.
        """
        task = asyncio.create_task(self._moderator.judge(human, bot))
        # A judge that swallows its cancellation must not hold up the caller: the task is left to
        # itself then, and this set keeps it from being collected while it runs.
        self._running.add(task)
        task.add_done_callback(self._forget)
        try:
            done, _ = await asyncio.wait({task}, timeout=self._timeout_s)
        finally:
            task.cancel()
        if not done:
            self._counts.judgement_failed("timeout", "TimeoutError")
            raise ModerationUnavailable(f"the moderation gave no verdict within {self._timeout_s:g} seconds")
        return self._verdict_of(task)

    def _forget(self, task: asyncio.Task[Verdict]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as seen; otherwise asyncio logs it, text and all

    def _verdict_of(self, task: asyncio.Task[Verdict]) -> Verdict:
        if task.cancelled():
            self._counts.judgement_failed("failed", "CancelledError")
            raise ModerationUnavailable("the moderation broke off")
        failure = task.exception()
        if failure is None:
            return self._checked(task.result())
        if not isinstance(failure, Exception):
            raise failure  # the process is being ended
        self._counts.judgement_failed("failed", type(failure).__name__)
        if isinstance(failure, ModerationUnavailable):
            raise failure
        raise ModerationUnavailable("the moderation failed") from None

    def _checked(self, verdict: Verdict) -> Verdict:
        try:
            return check_verdict(verdict)
        except ModerationUnavailable as error:
            self._counts.judgement_failed("nonsense", type(error).__name__)
            raise
        except Exception as error:  # noqa: BLE001 (any shape can come out of a broken judge)
            self._counts.judgement_failed("nonsense", type(error).__name__)
            raise ModerationUnavailable("the moderation failed") from None
