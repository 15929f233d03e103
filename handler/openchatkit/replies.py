"""Records as the wire shows them: plain conversions from `ports` and `turn` to `wire`."""

from __future__ import annotations

from collections.abc import Sequence

from openchatkit import wire
from openchatkit.moderation.labels import CategorisedVerdict
from openchatkit.ports import CitedPassage, Passage, Session, Turn, Verdict
from openchatkit.turn import TurnResult


def reply(
    result: TurnResult,
    *,
    session_id: str | None,
    request_id: str,
    turn: int | None,
    retrieval_enabled: bool,
) -> wire.Reply:
    """Return a turn's outcome as the whole answer to its request."""
    details = wire.Details(
        session_id=session_id,
        request_id=request_id,
        turn=turn,
        finish_reason=result.finish_reason,
        moderation=moderation(result.input_verdict, result.output_verdict),
        citations=[citation(reference(n, passage), passage.text) for n, passage in result.citations],
        retrieval=wire.RetrievalDetails(
            enabled=retrieval_enabled,
            passages=len(result.retrieval.passages),
            failures=dict(result.retrieval.failures),
            withheld=result.retrieval.withheld,
        ),
        usage=result.usage,
        timings=result.timings,
    )
    return wire.Reply(generated_text=result.text, details=details)


def stored_turn(turn: Turn, texts: Sequence[str]) -> wire.StoredTurn:
    """Return a stored turn. `texts` are those of its citations, in their order."""
    return wire.StoredTurn(
        turn=turn.number,
        request_id=turn.request_id,
        human=turn.human,
        bot=turn.bot,
        finish_reason=turn.finish_reason,
        created_at=turn.created_at,
        moderation=moderation(turn.input_verdict, turn.output_verdict),
        citations=[citation(cited, text) for cited, text in zip(turn.citations, texts, strict=True)],
        feedback=turn.feedback.rating if turn.feedback else None,
    )


def judged(verdict: Verdict) -> wire.JudgedText:
    """Return a verdict; six digits of a probability are plenty."""
    scores = {label: round(score, 6) for label, score in verdict.scores.items()}
    return wire.JudgedText(label=verdict.label, scores=scores, harm=round(verdict.harm, 6))


def judgement(verdict: Verdict) -> wire.Judgement:
    """Return a verdict as the answer to a MODERATE request."""
    category = verdict.category if isinstance(verdict, CategorisedVerdict) else None
    return wire.Judgement(**judged(verdict).model_dump(), category=category)


def moderation(human: Verdict | None, bot: Verdict | None) -> wire.ModerationDetails:
    """Return the verdicts of a turn's two directions."""
    return wire.ModerationDetails(input=judged(human) if human else None, output=judged(bot) if bot else None)


def reference(number: int, passage: Passage) -> CitedPassage:
    """Return a passage as a stored turn refers to it: without its text."""
    return CitedPassage(
        number=number,
        id=passage.id,
        source=passage.source,
        title=passage.title,
        score=passage.score,
        url=passage.url,
        date=passage.date,
        place=passage.place,
    )


def citation(cited: CitedPassage, text: str) -> wire.Citation:
    """Return a cited passage, its text fetched anew by the caller."""
    return wire.Citation(
        number=cited.number,
        id=cited.id,
        source=cited.source,
        title=cited.title,
        text=text,
        score=round(cited.score, 6),
        url=cited.url,
        date=cited.date,
        place=cited.place,
    )


def summary(session: Session) -> wire.SessionSummary:
    """Return a line of a user's list of conversations."""
    return wire.SessionSummary(
        session_id=session.session_id,
        title=session.title,
        created_at=session.created_at,
        updated_at=session.updated_at,
    )
