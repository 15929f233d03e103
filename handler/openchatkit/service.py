"""The chatbot: turns and everything around them, over the ports.

`OpenChatKitService` checks whose session it is, runs each turn in a task of its own, and stores it
by one conditional write before the final event. A caller that stops listening stops the turn: the
engine is freed and what was delivered so far is stored. No two turns of a session run at once here;
two that run on different instances are told apart by the store, and the later one gets `Conflict`.

It knows no HTTP, no DJL and no vendor: `invocations.py` speaks the wire, `build.py` composes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from openchatkit import judging, replies, wire
from openchatkit.conversation import Conversation, new_session, owned_session
from openchatkit.errors import (
    Conflict,
    EngineFailed,
    InvalidRequest,
    OpenChatKitError,
    Overloaded,
    TurnTimeout,
)
from openchatkit.heartbeat import Heart
from openchatkit.ports import CitedPassage, Closing, ConversationStore, Feedback, Moderator, Turn
from openchatkit.settings import Settings
from openchatkit.turn import TurnPlan, TurnResult, TurnRunner

logger = logging.getLogger(__name__)

CANCEL_POLL_S = 1.0
"""How often a generating instance looks for a wish to stop that reached another instance."""
STOPPING_WAIT_S = 5.0
"""How long a new turn waits for a stopped one of the same session to be stored."""

Asked = wire.ChatRequest | wire.MessagesRequest
Event = wire.Started | wire.Heartbeat | str | wire.Reply
"""Of a stream: first `Started`, then pieces of text, last the `Reply`; heartbeats where asked for."""


@dataclass(frozen=True, slots=True)
class _Said:
    """A turn that a stateless request brings along."""

    human: str
    bot: str
    number: int


@dataclass(slots=True)
class _Active:
    """A turn in flight."""

    plan: TurnPlan
    conversation: Conversation | None
    timeout_s: float = 0.0
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    events: asyncio.Queue[Event | OpenChatKitError] = field(default_factory=asyncio.Queue)
    deserted: bool = False
    """Nobody listens any more."""
    delivered: str = ""

    @property
    def session_id(self) -> str | None:
        return self.conversation.session.session_id if self.conversation else None


class OpenChatKitService:
    """The chatbot of one process."""

    def __init__(
        self,
        *,
        settings: Settings,
        runner: TurnRunner,
        moderator: Moderator,
        store: ConversationStore,
        closing: Sequence[Closing] = (),
    ) -> None:
        self._settings = settings
        self._runner = runner
        self._moderator = moderator
        self._store = store
        self._closing = closing
        self._sessions: dict[str, _Active] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # --- turns -----------------------------------------------------------------------------------

    async def reply(self, request: Asked) -> wire.Reply:
        """Return a whole answer; raises what `stream` raises."""
        timeout_s = min(self._settings.turn_timeout_s, self._settings.reply_timeout_s)
        async with contextlib.aclosing(self.stream(request, timeout_s=timeout_s)) as events:
            async for event in events:
                if isinstance(event, wire.Reply):
                    return event
        raise EngineFailed("the turn ended without an answer")

    async def stream(
        self, request: Asked, *, heartbeat_s: float | None = None, timeout_s: float | None = None
    ) -> AsyncGenerator[Event]:
        """Yield the events of a turn. Closing the iterator stops the turn.

        Args:
            heartbeat_s: silence after which a `Heartbeat` comes; None means never.
            timeout_s: most that the turn may take; None takes `Settings.turn_timeout_s`.

        Raises:
            OpenChatKitError: before the first event, or in its place at the end of a turn that
                failed; such a turn is not stored.
        """
        active = await self._begin(request)
        active.timeout_s = timeout_s or self._settings.turn_timeout_s
        task = asyncio.create_task(self._run(active))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        heart = Heart(active.events, heartbeat_s)
        try:
            yield wire.Started(session_id=active.session_id, request_id=active.plan.request_id)
            while True:
                event = await active.events.get()
                heart.rest()
                if isinstance(event, OpenChatKitError):
                    raise event
                if isinstance(event, str):
                    active.delivered += event
                yield event
                if isinstance(event, wire.Reply):
                    return
        finally:
            heart.stop()
            if not active.done.is_set():
                active.deserted = True
                active.cancelled.set()
                # The turn ends by itself; waiting lets the caller's next request find it stored.
                await asyncio.shield(asyncio.wait({task}))

    async def _begin(self, request: Asked) -> _Active:
        if len(self._tasks) >= self._settings.max_concurrent_turns:
            raise Overloaded(f"{len(self._tasks)} turns are in flight, which is the limit here")
        self._check(request)
        request_id = secrets.token_hex(16)
        if isinstance(request, wire.MessagesRequest):
            return _Active(self._stateless_plan(request, request_id), None)
        if request.session_id is not None:
            await self._wait_for_turn_of(request.session_id)
        conversation = await self._conversation(request)
        session_id = conversation.session.session_id
        plan = TurnPlan(
            request_id=request_id,
            question=request.inputs,
            history=conversation.history,
            parameters=self._runner.chat.sampling_parameters(request.parameters),
            retrieval=request.retrieval,
            moderation=request.moderation,
        )
        # No await since the last look: two requests of this process cannot both pass.
        if session_id in self._sessions:
            raise Conflict("a turn of this session is being generated")
        active = _Active(plan, conversation)
        self._sessions[session_id] = active
        return active

    def _check(self, request: Asked) -> None:
        """Refuse what the request's shape allows and this deployment does not."""
        for direction in ("input", "output"):
            if not getattr(request.moderation, direction) and not self._settings.moderation_may_be_disabled:
                raise InvalidRequest(f"moderation.{direction}: may not be switched off in this deployment")
        known = self._runner.retriever.sources if self._runner.retriever is not None else ()
        for name in request.retrieval.sources:
            if name not in known:
                raise InvalidRequest(f"retrieval.sources: unknown source {name}; known: {', '.join(known)}")

    def _stateless_plan(self, request: wire.MessagesRequest, request_id: str) -> TurnPlan:
        spoken = [message for message in request.messages if message.role in ("user", "assistant")]
        pairs = zip(spoken[:-1:2], spoken[1:-1:2], strict=True)
        history = [_Said(human.text, bot.text, n) for n, (human, bot) in enumerate(pairs, start=1)]
        systems = [message.text for message in request.messages if message.role in ("system", "developer")]
        return TurnPlan(
            request_id=request_id,
            question=spoken[-1].text,
            history=history,
            parameters=self._runner.chat.sampling_parameters(request.parameters),
            retrieval=request.retrieval,
            moderation=request.moderation,
            instructions=" ".join(systems),
        )

    async def _conversation(self, request: wire.ChatRequest) -> Conversation:
        if request.session_id is None:
            return await Conversation.begin(self._store, request.user_id)
        return await Conversation.resume(
            self._store,
            request.session_id,
            request.user_id,
            limit=self._settings.history_turns,
            replace_turn=request.replace_turn,
        )

    async def _wait_for_turn_of(self, session_id: str) -> None:
        """Wait for a turn of the session that has been stopped and is not stored yet."""
        running = self._sessions.get(session_id)
        if running is not None and running.cancelled.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(running.done.wait(), STOPPING_WAIT_S)

    async def _run(self, active: _Active) -> None:
        """Run a turn to its end: the last event is its reply or its error."""
        stop = asyncio.create_task(self._watch(active))
        try:
            try:
                async with asyncio.timeout(active.timeout_s):
                    result = await self._runner.run(
                        active.plan, cancelled=active.cancelled, release=active.events.put_nowait
                    )
            except TimeoutError as error:
                raise TurnTimeout(f"the turn ran past {active.timeout_s:g} s") from error
            turn = await self._store_turn(active, result)
            self._log(active, result)
            active.events.put_nowait(self._as_reply(active, result, turn))
        except OpenChatKitError as error:
            self._log_failure(active, error.code, error)
            active.events.put_nowait(error)
        except Exception as error:  # noqa: BLE001 - whatever broke, the caller gets an end with a code
            self._log_failure(active, "engine_failed", error)
            failed = EngineFailed("the turn failed")
            failed.__cause__ = error
            active.events.put_nowait(failed)
        finally:
            stop.cancel()
            if active.session_id is not None:
                self._sessions.pop(active.session_id, None)
            active.done.set()

    async def _watch(self, active: _Active) -> None:
        """Stop the engine when the turn is cancelled, here or by a mark in the store."""
        mark = active.conversation.session.cancel_mark if active.conversation else None
        while not active.cancelled.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(active.cancelled.wait(), CANCEL_POLL_S)
            if active.cancelled.is_set() or active.session_id is None:
                continue
            try:
                session = await self._store.session(active.session_id)
            except OpenChatKitError:
                continue  # a store that is away for a moment ends no turn; the final write decides
            asked = session.cancel_mark if session is not None else None
            if asked is not None and asked != mark and asked.split(":")[0] in ("*", active.plan.request_id):
                active.cancelled.set()
        await self._runner.chat.abort(active.plan.request_id)

    async def _store_turn(self, active: _Active, result: TurnResult) -> Turn | None:
        if active.conversation is None:
            return None
        deserted = active.deserted
        turn = Turn(
            session_id=active.conversation.session.session_id,
            number=active.conversation.number,
            request_id=active.plan.request_id,
            human=active.plan.question,
            # A caller that left has seen what was delivered, not what came after.
            bot=active.delivered if deserted else result.text,
            finish_reason="cancelled" if deserted else result.finish_reason,
            created_at=time.time(),
            citations=tuple(replies.reference(number, passage) for number, passage in result.citations),
            input_verdict=result.input_verdict,
            output_verdict=result.output_verdict,
            prompt_tokens=result.usage.prompt_tokens,
            completion_tokens=result.usage.completion_tokens,
        )
        await active.conversation.store_turn(self._store, turn)
        return turn

    def _as_reply(self, active: _Active, result: TurnResult, turn: Turn | None) -> wire.Reply:
        return replies.reply(
            result,
            session_id=active.session_id,
            request_id=active.plan.request_id,
            turn=turn.number if turn is not None else None,
            retrieval_enabled=self._runner.retriever is not None and active.plan.retrieval.enabled,
        )

    def _log(self, active: _Active, result: TurnResult) -> None:
        logger.info(
            "turn request_id=%s finish_reason=%s input=%s output=%s passages=%d tokens=%d+%d seconds=%.3f",
            active.plan.request_id,
            result.finish_reason,
            result.input_verdict.label if result.input_verdict else "-",
            result.output_verdict.label if result.output_verdict else "-",
            len(result.retrieval.passages),
            result.usage.prompt_tokens,
            result.usage.completion_tokens,
            result.timings.total,
        )

    def _log_failure(self, active: _Active, code: str, error: BaseException) -> None:
        # The type alone: the text of somebody else's exception may quote the prompt.
        causes = [type(error).__name__]
        while error.__cause__ is not None:
            error = error.__cause__
            causes.append(type(error).__name__)
        logger.warning(
            "turn request_id=%s failed=%s cause=%s", active.plan.request_id, code, "<-".join(causes)
        )

    # --- around turns ----------------------------------------------------------------------------

    async def cancel(self, request: wire.CancelRequest) -> wire.Cancelled:
        """Stop a session's turn: at once where it runs here, within about a second elsewhere."""
        await owned_session(self._store, request.session_id, request.user_id)
        active = self._sessions.get(request.session_id)
        if active is not None and request.request_id in (None, active.plan.request_id):
            active.cancelled.set()
            return wire.Cancelled(session_id=request.session_id, cancelled=True)
        mark = f"{request.request_id or '*'}:{secrets.token_hex(4)}"
        await self._store.set_cancel_mark(request.session_id, mark)
        return wire.Cancelled(session_id=request.session_id, cancelled=False)

    async def history(self, request: wire.HistoryRequest) -> wire.History:
        """Return a page of a session's turns, with the text of the passages they cite."""
        session = await owned_session(self._store, request.session_id, request.user_id)
        turns = await self._store.turns(session.session_id, request.limit + 1, request.before)
        page = turns[-request.limit :]
        return wire.History(
            session_id=session.session_id,
            title=session.title,
            turns=[
                replies.stored_turn(turn, [await self._text_of(cited) for cited in turn.citations])
                for turn in page
            ],
            more=len(turns) > request.limit,
        )

    async def _text_of(self, cited: CitedPassage) -> str:
        """Return a cited passage's text, empty where its source holds it no more."""
        if self._runner.retriever is None:
            return ""
        passage = await self._runner.retriever.passage(cited.source, cited.id)
        return passage.text if passage is not None else ""

    async def sessions(self, request: wire.SessionsRequest) -> wire.Sessions:
        """Return a page of a user's sessions."""
        page = await self._store.sessions(request.user_id, request.limit, request.cursor)
        return wire.Sessions(sessions=[replies.summary(one) for one in page.sessions], cursor=page.cursor)

    async def new_session(self, request: wire.NewSessionRequest) -> wire.SessionSummary:
        """Open a session without a turn."""
        session = new_session(request.user_id)
        await self._store.create(session)
        return replies.summary(session)

    async def close_session(self, request: wire.CloseRequest) -> wire.Acknowledged:
        """Acknowledge the end of a stateful session: nothing is held for it between turns."""
        await owned_session(self._store, request.session_id, request.user_id)
        return wire.Acknowledged(session_id=request.session_id)

    async def delete(self, request: wire.DeleteRequest) -> wire.Deleted:
        """Delete a session; a turn of it that is running is stopped and not stored."""
        await owned_session(self._store, request.session_id, request.user_id)
        active = self._sessions.get(request.session_id)
        if active is not None:
            active.cancelled.set()
        await self._store.delete(request.session_id)
        return wire.Deleted(session_id=request.session_id)

    async def rename(self, request: wire.RenameRequest) -> wire.Acknowledged:
        """Give a session another title."""
        await owned_session(self._store, request.session_id, request.user_id)
        await self._store.rename(request.session_id, " ".join(request.title.split()))
        return wire.Acknowledged(session_id=request.session_id)

    async def feedback(self, request: wire.FeedbackRequest) -> wire.Acknowledged:
        """Set or clear what the user thinks of a turn."""
        await owned_session(self._store, request.session_id, request.user_id)
        given = None if request.rating == "none" else Feedback(request.rating, request.comment)
        if not await self._store.set_feedback(request.session_id, request.turn, given):
            raise InvalidRequest(f"turn: the session has no turn {request.turn}")
        return wire.Acknowledged(session_id=request.session_id)

    async def moderate(self, request: wire.ModerateRequest) -> wire.Verdicts:
        """Judge texts by themselves."""
        return await judging.judge_all(self._moderator, request)

    async def close(self) -> None:
        """Stop what runs and wait until it is stored."""
        for active in list(self._sessions.values()):
            active.cancelled.set()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=STOPPING_WAIT_S)
        for part in self._closing:
            await part.close()
        await self._store.close()
