from __future__ import annotations

import math

import pytest

from openchatkit.engines.choice_tree import ChoiceTree


def test_questions_are_asked_where_choices_part() -> None:
    tree = ChoiceTree([[1], [2, 3], [2, 4, 5], [2, 3, 6]])
    assert tree.questions == {(): [1, 2], (2,): [3, 4], (2, 3): [6]}
    assert tree.partings() == [[0], [0, 1], [0, 1], [0, 1, 2]]


def test_tokens_that_follow_of_themselves_are_not_asked_for() -> None:
    tree = ChoiceTree([[1], [2, 8, 9], [3, 8, 9], [8, 9], [8, 7]])
    assert tree.questions == {(): [1, 2, 3, 8], (8,): [9, 7]}


def test_a_choice_of_one_token_needs_one_question() -> None:
    assert list(ChoiceTree([[7], [8]]).questions) == [()]


@pytest.mark.parametrize("choices", [[[7, 8]], [[7, 8], [7, 8]]])
def test_what_is_the_only_choice_needs_no_question(choices: list[list[int]]) -> None:
    tree = ChoiceTree(choices)
    assert tree.questions == {}
    assert tree.probabilities({}) == pytest.approx([1 / len(choices)] * len(choices))


def test_probabilities_are_those_of_mean_log_likelihoods() -> None:
    tree = ChoiceTree([[1], [2, 3, 9], [2, 4]])
    answers = {(): {1: -1.0, 2: -0.5}, (2,): {3: -0.1, 4: -3.5}}
    weights = [math.exp(-1.0), math.exp(-0.3), math.exp(-2.0)]
    assert tree.probabilities(answers) == pytest.approx([weight / sum(weights) for weight in weights])


def test_very_unlikely_choices_keep_their_order() -> None:
    first, second = ChoiceTree([[1], [2]]).probabilities({(): {1: -2000.0, 2: -2001.0}})
    assert first > second > 0


def test_the_impossible_choice_has_no_probability() -> None:
    assert ChoiceTree([[1], [2]]).probabilities({(): {1: -1.0, 2: -math.inf}}) == [1.0, 0.0]


@pytest.mark.parametrize("broken", [math.nan, -math.inf, math.inf])
def test_what_is_no_number_is_refused(broken: float) -> None:
    with pytest.raises(ValueError, match="not numbers"):
        ChoiceTree([[1], [2]]).probabilities({(): {1: broken, 2: broken}})
