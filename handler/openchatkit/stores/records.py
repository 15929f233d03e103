"""A turn as a plain dictionary, the one form that every store writes.

Strings, integers, floats, lists, dictionaries and None, nothing else: SQLite keeps it as JSON,
DynamoDB as an item. The session's id and the turn's number are the key and stand beside it.

`VERSION` grows when a reader of the old form would misread the new one. A new field does not need
that: readers take the fields they know, give absent ones their default and ignore the rest, so two
releases can share a store during a deployment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from openchatkit.errors import InvalidRequest, StoreUnavailable
from openchatkit.ports import CitedPassage, Feedback, FinishReason, Turn, Verdict

VERSION = 1

Record = dict[str, Any]


def turn_record(turn: Turn) -> Record:
    """Return a turn's record.

    Raises:
        InvalidRequest: a text with a lone surrogate or a number that is not finite; no store could
            give it back as it was.
    """
    record: Record = {
        "v": VERSION,
        "request_id": turn.request_id,
        "human": turn.human,
        "bot": turn.bot,
        "finish_reason": turn.finish_reason,
        "created_at": turn.created_at,
        "citations": [_citation_record(citation) for citation in turn.citations],
        "input_verdict": _verdict_record(turn.input_verdict),
        "output_verdict": _verdict_record(turn.output_verdict),
        "prompt_tokens": turn.prompt_tokens,
        "completion_tokens": turn.completion_tokens,
        "feedback": feedback_record(turn.feedback),
    }
    check_storable(record)
    return record


def turn_from(session_id: str, number: int, record: Mapping[str, Any]) -> Turn:
    """Return the turn of a record; numbers may be of any type that `int` and `float` take.

    Raises:
        StoreUnavailable: the record is broken.
    """
    try:
        return Turn(
            session_id=session_id,
            number=number,
            request_id=record["request_id"],
            human=record["human"],
            bot=record["bot"],
            # A newer release may know more reasons: they pass through as they are.
            finish_reason=cast("FinishReason", record["finish_reason"]),
            created_at=float(record["created_at"]),
            citations=tuple(_citation_from(citation) for citation in record.get("citations") or ()),
            input_verdict=_verdict_from(record.get("input_verdict")),
            output_verdict=_verdict_from(record.get("output_verdict")),
            prompt_tokens=int(record.get("prompt_tokens") or 0),
            completion_tokens=int(record.get("completion_tokens") or 0),
            feedback=feedback_from(record.get("feedback")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreUnavailable("a stored turn cannot be read") from error


def feedback_record(feedback: Feedback | None) -> Record | None:
    """Return the record of a feedback, None where there is none."""
    return None if feedback is None else {"rating": feedback.rating, "comment": feedback.comment}


def feedback_from(record: Mapping[str, Any] | None) -> Feedback | None:
    """Return the feedback of a record."""
    return None if record is None else Feedback(record["rating"], record.get("comment") or "")


def check_storable(value: object) -> None:
    """Raise `InvalidRequest` unless every text in `value` is Unicode and every number finite."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            # Without its cause, which quotes the text.
            raise InvalidRequest("a text with lone surrogates cannot be stored") from None
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequest("a number that is not finite cannot be stored")
    elif isinstance(value, Mapping):
        for name, member in value.items():
            check_storable(name)
            check_storable(member)
    elif isinstance(value, Sequence):
        for member in value:
            check_storable(member)


def _citation_record(citation: CitedPassage) -> Record:
    return {
        "number": citation.number,
        "id": citation.id,
        "source": citation.source,
        "title": citation.title,
        "score": citation.score,
        "url": citation.url,
        "date": citation.date,
        "place": citation.place,
    }


def _citation_from(record: Mapping[str, Any]) -> CitedPassage:
    return CitedPassage(
        number=int(record["number"]),
        id=record["id"],
        source=record["source"],
        title=record["title"],
        score=float(record["score"]),
        url=record.get("url"),
        date=record.get("date"),
        place=record.get("place"),
    )


def _verdict_record(verdict: Verdict | None) -> Record | None:
    if verdict is None:
        return None
    return {"label": verdict.label, "scores": dict(verdict.scores), "harm": verdict.harm}


def _verdict_from(record: Mapping[str, Any] | None) -> Verdict | None:
    if record is None:
        return None
    scores = {label: float(score) for label, score in record["scores"].items()}
    return Verdict(label=record["label"], scores=scores, harm=float(record["harm"]))
