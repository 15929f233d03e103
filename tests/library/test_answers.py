"""The score of the whole chatbot on the sample library's questions, end to end.

Everything is real: the demonstration model, MiniLM, Faiss, moderation, SQLite. An answer is right
when it holds every expected string and cites a passage of a document that supports it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from local import defaults
from openchatkit import wire
from openchatkit.build import build_service
from openchatkit.service import OpenChatKitService
from recipes.demo_model.corpus.dialogues import NO_PASSAGE, NOT_FOUND

QUESTIONS = [
    json.loads(line)
    for line in Path(__file__).with_name("questions.jsonl").read_text(encoding="utf-8").splitlines()
]

# A little under what the demonstration model reaches behind its reranker (README, docs/LOG.md). The aim is
# 0.85 for facts; the sentence that it is given holds the answer for 0.91 of them.
FLOOR_FACTS = 0.75
FLOOR_FOLLOW_UPS = 0.59
FLOOR_DECLINED = 0.88
FLOOR_SMALLTALK = 0.95
AT_ONCE = 4


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[OpenChatKitService]:
    settings = defaults.local_settings(model=str(defaults.DEMO_MODEL), documents=(), data=tmp_path)
    service = await asyncio.to_thread(build_service, settings)
    yield service
    await service.close()


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [question for question in QUESTIONS if question["kind"] == kind]


async def replies(service: OpenChatKitService, questions: Sequence[dict[str, Any]]) -> list[wire.Reply]:
    """Ask each question, after its history, in a session of its own."""
    places = asyncio.Semaphore(AT_ONCE)

    async def ask(question: dict[str, Any]) -> wire.Reply:
        async with places:
            session_id = None
            for earlier in question.get("history", []):
                reply = await service.reply(wire.ChatRequest(inputs=earlier["question"]))
                session_id = reply.details.session_id
            return await service.reply(wire.ChatRequest(inputs=question["question"], session_id=session_id))

    return await asyncio.gather(*(ask(question) for question in questions))


def is_right(question: dict[str, Any], reply: wire.Reply) -> bool:
    text = reply.generated_text.casefold()
    cited = {Path(citation.id.split("#")[0]).name for citation in reply.details.citations}
    holds = all(answer.casefold() in text for answer in question["answer"])
    return holds and bool(cited & set(question["documents"]))


def report(name: str, questions: Sequence[dict[str, Any]], right: Sequence[bool], floor: float) -> None:
    score = sum(right) / len(right)
    missed = [question["id"] for question, good in zip(questions, right, strict=True) if not good]
    assert score >= floor, f"{name}: {score:.1%} is below {floor:.0%}; missed {missed}"


async def test_facts_with_their_citation(service: OpenChatKitService) -> None:
    questions = of_kind("fact")
    answers = await replies(service, questions)
    report("facts", questions, list(map(is_right, questions, answers)), FLOOR_FACTS)


async def test_follow_ups_use_the_turn_before(service: OpenChatKitService) -> None:
    questions = of_kind("follow_up")
    answers = await replies(service, questions)
    report("follow-ups", questions, list(map(is_right, questions, answers)), FLOOR_FOLLOW_UPS)


async def test_what_the_library_does_not_hold_is_declined(service: OpenChatKitService) -> None:
    questions = of_kind("unanswerable")
    answers = await replies(service, questions)
    # A reply without a citation may still be made up.
    declined = [
        not reply.details.citations and reply.generated_text.startswith((NOT_FOUND, NO_PASSAGE))
        for reply in answers
    ]
    report("declined", questions, declined, FLOOR_DECLINED)


async def test_small_talk_is_answered_without_citations(service: OpenChatKitService) -> None:
    questions = of_kind("smalltalk")
    answers = await replies(service, questions)
    good = [not reply.details.citations and len(reply.generated_text) > 3 for reply in answers]
    report("small talk", questions, good, FLOOR_SMALLTALK)
    assert all(reply.details.finish_reason == "stop" for reply in answers)
