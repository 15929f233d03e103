"""One turn, from a checked request to the text that may be shown and the verdicts about it.

It screens the question, looks for passages and checks the domain at the same time, then lets the
model answer (`moderation_input: beside` begins before the screening is over) and releases only text
that moderation has cleared. It knows no sessions: what is
stored, who may ask and how events travel is the service's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace

from openchatkit.chat import ChatModel, Draft
from openchatkit.moderation.counts import Counts
from openchatkit.moderation.passages import PassageScreen
from openchatkit.moderation.policy import Decision, ModerationPolicy
from openchatkit.moderation.windows import Released, moderated
from openchatkit.ports import (
    Chunk,
    DomainGuard,
    Encoder,
    Filters,
    FinishReason,
    Moderator,
    Passage,
    Query,
    Retrieval,
    Retriever,
    SamplingParameters,
    Verdict,
)
from openchatkit.prompt import NumberedExchange
from openchatkit.settings import Settings
from openchatkit.tasks import give_up
from openchatkit.wire import ModerationOptions, RetrievalOptions, Timings, Usage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TurnPlan:
    """What a turn is to do."""

    request_id: str
    question: str
    history: Sequence[NumberedExchange]
    parameters: SamplingParameters
    retrieval: RetrievalOptions
    moderation: ModerationOptions
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class TurnResult:
    """What came of it. `text` is exactly what was released."""

    text: str
    finish_reason: FinishReason
    citations: tuple[tuple[int, Passage], ...] = ()
    """Passages that the text cites, by their number."""
    input_verdict: Verdict | None = None
    output_verdict: Verdict | None = None
    retrieval: Retrieval = field(default_factory=Retrieval)
    usage: Usage = field(default_factory=Usage)
    timings: Timings = field(default_factory=Timings)


class _Clock:
    """Seconds since the turn began, by name of the step that was done then."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self.marks: dict[str, float] = {}

    def mark(self, step: str) -> None:
        """Note a step's end, the first time it is named."""
        self.marks.setdefault(step, self.elapsed())

    def elapsed(self) -> float:
        return round(time.monotonic() - self._start, 4)

    def timings(self) -> Timings:
        return Timings(**self.marks, total=self.elapsed())


class TurnRunner:
    """Runs turns over the ports; holds nothing of any of them."""

    def __init__(
        self,
        *,
        settings: Settings,
        chat: ChatModel,
        moderator: Moderator,
        policy: ModerationPolicy,
        retriever: Retriever | None,
        encoder: Encoder | None,
        guard: DomainGuard | None,
        passage_screen: PassageScreen | None = None,
        counts: Counts | None = None,
    ) -> None:
        self._settings = settings
        self.chat = chat
        self._moderator = moderator
        self._policy = policy
        self.retriever = retriever
        self._encoder = encoder
        self._guard = guard
        self._passage_screen = passage_screen
        self.counts = counts or Counts()

    async def run(
        self, plan: TurnPlan, *, cancelled: asyncio.Event, release: Callable[[str], None]
    ) -> TurnResult:
        """Run a turn. `release` gets each piece of text as soon as it may be shown.

        Raises:
            ModerationUnavailable: a text could not be judged. What was released before was cleared.
            InvalidRequest: the request does not fit the model's context.
            EngineFailed, OutOfMemory: the model failed.
        """
        clock = _Clock()
        outlet = _Outlet(release, clock)
        judging = asyncio.create_task(self._judge_input(plan, clock))
        answering: asyncio.Task[TurnResult] | None = None

        def answer(retrieval: Retrieval) -> asyncio.Task[TurnResult]:
            return asyncio.create_task(self._answer(plan, retrieval, cancelled, outlet, clock))

        try:
            retrieval, in_domain = await self._look_up(plan, clock)
            beside = self._settings.moderation_input == "beside" and not judging.done()
            if beside and in_domain and not cancelled.is_set():
                answering = answer(retrieval)
            decision = await judging
            verdict = decision.verdict if decision is not None else None
            if decision is not None and decision.action == "override":
                outlet.instead(decision.reply)
                return self._overridden(verdict, retrieval, decision.reply, "moderated", clock)
            if not in_domain:
                assert self._guard is not None
                outlet.instead(self._guard.reply)
                return self._overridden(verdict, retrieval, self._guard.reply, "out_of_domain", clock)
            if answering is None and cancelled.is_set():
                return self._overridden(verdict, retrieval, "", "cancelled", clock)
            outlet.open()
            answering = answering or answer(retrieval)
            return replace(await answering, input_verdict=verdict)
        finally:
            judging.cancel()
            if answering is not None:
                # Its stream is closed before the turn ends: the engine's slot is free by then.
                await give_up([answering])

    # --- before the model is asked, or beside it --------------------------------------------------

    async def _judge_input(self, plan: TurnPlan, clock: _Clock) -> Decision | None:
        if not plan.moderation.input:
            return None
        verdict = await self._moderator.judge(plan.question)
        clock.mark("input_moderation")
        decision = self._policy.decide(verdict, "input", plan.question)
        self.counts.decided(decision, "input")
        return decision

    async def _look_up(self, plan: TurnPlan, clock: _Clock) -> tuple[Retrieval, bool]:
        """Return the passages and whether the question is in the domain, from one embedding."""
        wanted = self.retriever is not None and plan.retrieval.enabled
        if not wanted and self._guard is None:
            return Retrieval(), True
        earlier = [turn.human for turn in plan.history]
        texts = [plan.question]
        if wanted and self.retriever is not None:
            texts = self.retriever.queries(plan.question, earlier)
        try:
            queries = await self._embed(texts, _filters(plan.retrieval))
        except Exception as error:  # noqa: BLE001 - retrieval of any kind may fail, the turn goes on
            logger.warning("the query could not be embedded: %s", type(error).__name__)
            return Retrieval(failures={"encoder": "failed"}), True
        retrieval, in_domain = await asyncio.gather(
            # The last query of a follow-up carries the words that it leans on.
            self._retrieve(plan, queries),
            self._check(queries[-1]),
        )
        clock.mark("retrieval")
        return retrieval, in_domain

    async def _embed(self, texts: Sequence[str], filters: Filters) -> list[Query]:
        if self._encoder is None:
            return [Query(text, filters=filters) for text in texts]
        vectors = await asyncio.to_thread(self._encoder.encode, texts)
        return [Query(text, vector, filters) for text, vector in zip(texts, vectors, strict=True)]

    async def _retrieve(self, plan: TurnPlan, queries: Sequence[Query]) -> Retrieval:
        if self.retriever is None or not plan.retrieval.enabled:
            return Retrieval()
        k = plan.retrieval.k or self._settings.retrieval_k
        found = await self.retriever.retrieve(queries, k, plan.retrieval.sources)
        if self._passage_screen is None:
            return found
        kept = await self._passage_screen.screen(found.passages)
        return Retrieval(kept, found.failures, len(found.passages) - len(kept))

    async def _check(self, query: Query) -> bool:
        return self._guard is None or await self._guard.in_domain(query)

    # --- the answer ------------------------------------------------------------------------------

    async def _answer(
        self,
        plan: TurnPlan,
        retrieval: Retrieval,
        cancelled: asyncio.Event,
        outlet: _Outlet,
        clock: _Clock,
    ) -> TurnResult:
        draft = self.chat.draft(
            plan.question,
            history=plan.history,
            passages=retrieval.passages,
            parameters=plan.parameters,
            request_id=plan.request_id,
            instructions=plan.instructions,
        )
        meter = _Meter(draft.chunks, cancelled, clock)
        text, end = "", None
        async with contextlib.aclosing(self._moderated(plan, meter)) as cleared:
            async for end in cleared:
                if end.text:
                    outlet.release(end.text)
                    text += end.text
        assert end is not None
        assert end.finish_reason is not None
        await outlet.opened.wait()  # what comes of a question that is overridden does not count
        if end.decision is not None:
            self.counts.decided(end.decision, "output")
        if end.decision is not None and end.decision.blocked:
            # What was released stays, it was cleared; the override stands in place of the rest.
            override = f"\n\n{end.decision.reply}" if text else end.decision.reply
            outlet.instead(override)
            text += override
        return TurnResult(
            text=text,
            finish_reason=end.finish_reason,
            citations=tuple(draft.cited_in(text)),
            output_verdict=end.verdict,
            retrieval=self._placed(retrieval, draft),
            usage=Usage(prompt_tokens=draft.prompt.tokens, completion_tokens=meter.tokens),
            timings=clock.timings(),
        )

    def _moderated(self, plan: TurnPlan, meter: _Meter) -> AsyncGenerator[Released]:
        mode = self._settings.moderation_output if plan.moderation.output else "off"

        async def judge(reply: str) -> Decision:
            verdict = await self._moderator.judge(plan.question, reply)
            return self._policy.decide(verdict, "output", plan.question, reply)

        return moderated(
            meter.chunks(), judge, mode=mode, window_tokens=self._settings.moderation_window_tokens
        )

    @staticmethod
    def _placed(retrieval: Retrieval, draft: Draft) -> Retrieval:
        """Return the retrieval as the prompt held it: passages that did not fit are not counted."""
        return Retrieval(draft.passages, retrieval.failures, retrieval.withheld)

    @staticmethod
    def _overridden(
        verdict: Verdict | None, retrieval: Retrieval, reply: str, reason: FinishReason, clock: _Clock
    ) -> TurnResult:
        return TurnResult(
            reply,
            reason,
            input_verdict=verdict,
            retrieval=Retrieval((), retrieval.failures, retrieval.withheld),
            timings=clock.timings(),
        )


class _Outlet:
    """Lets text out to the caller, once it is open; holds it until then."""

    def __init__(self, release: Callable[[str], None], clock: _Clock) -> None:
        self._release = release
        self._clock = clock
        self._held: list[str] = []
        self.opened = asyncio.Event()

    def release(self, text: str) -> None:
        """Let a piece of cleared text out, now or when the question has been cleared too."""
        if not self.opened.is_set():
            self._held.append(text)
            return
        self._clock.mark("first_text")
        self._release(text)

    def instead(self, reply: str) -> None:
        """Let out what stands in place of an answer: no text of the model's."""
        self._release(reply)

    def open(self) -> None:
        """Let out what is held, and all that comes."""
        self.opened.set()
        for text in self._held:
            self.release(text)


class _Meter:
    """Counts what an engine generates and ends its stream when the turn is cancelled."""

    def __init__(self, chunks: AsyncGenerator[Chunk], cancelled: asyncio.Event, clock: _Clock) -> None:
        self._chunks = chunks
        self._cancelled = cancelled
        self._clock = clock
        self.tokens = 0

    async def chunks(self) -> AsyncGenerator[Chunk]:
        """Yield the chunks; closes the engine's stream on every way out."""
        async with contextlib.aclosing(self._chunks):
            async for chunk in self._chunks:
                self.tokens += chunk.tokens
                if chunk.tokens:
                    self._clock.mark("first_token")
                # A wish to stop may arrive before the engine knows the request, and be lost there.
                if self._cancelled.is_set() and chunk.finish_reason is None:
                    yield Chunk(chunk.text, 0, "cancelled")
                    return
                yield chunk


def _filters(options: RetrievalOptions) -> Filters:
    """Return a request's filters as the sources know them."""
    wanted = options.filters
    return Filters(
        date_from=wanted.date_from,
        date_to=wanted.date_to,
        company=tuple(wanted.company),
        kind=tuple(wanted.kind),
        source=tuple(wanted.source),
    )
