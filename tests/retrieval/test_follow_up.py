from __future__ import annotations

import pytest

from openchatkit.retrieval.follow_up import follow_up_queries

REVENUE = "What was Orla Freight's revenue in 2025?"


def test_a_follow_up_is_asked_with_what_it_leans_on() -> None:
    assert follow_up_queries("And its net income?", [REVENUE]) == [
        "And its net income?",
        "Orla Freight And its net income?",
        f"{REVENUE} And its net income?",
    ]


def test_a_chain_reaches_back_to_the_name() -> None:
    queries = follow_up_queries("And who audits it?", ["Who leads Acme?", REVENUE, "And its net income?"])
    assert queries[1] == "Orla Freight And who audits it?"
    assert "Acme" not in " ".join(queries)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("And in 2024?", "What was Orla Freight's revenue in 2024?"),
        ("What about Acme Corp?", "What was Acme Corp's revenue in 2025?"),
        ("And Acme in 2023?", "What was Acme's revenue in 2023?"),
    ],
)
def test_another_name_or_year_takes_the_place_of_the_old(question: str, expected: str) -> None:
    assert follow_up_queries(question, [REVENUE]) == [question, expected]


@pytest.mark.parametrize(
    "question",
    [
        "How many people work for Acme Corp?",
        "What does Acme say about its dividend?",
        "Which firm audits Acme this year?",
        "Thanks!",
        "Who are you?",
    ],
)
def test_a_question_that_speaks_for_itself_stays_alone(question: str) -> None:
    assert follow_up_queries(question, [REVENUE]) == [question]


@pytest.mark.parametrize("question", ["And its net income?", "", "Why?", "\n", "it"])
def test_the_first_question_stays_alone(question: str) -> None:
    assert follow_up_queries(question, []) == [question]


def test_without_capitals_the_question_before_still_helps() -> None:
    queries = follow_up_queries("and its net income?", ["what was orla freight's revenue?"])
    assert queries == ["and its net income?", "what was orla freight's revenue? and its net income?"]


def test_a_long_question_takes_names_alone() -> None:
    earlier = ["What did Corvane Hydraulics earn in 2025?"]
    question = "What did it say about " + " ".join(["orders and prices and"] * 10) + " customers?"
    assert follow_up_queries(question, earlier) == [question, f"Corvane Hydraulics {question}"]
