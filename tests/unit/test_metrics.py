"""Metrics against values worked out by hand."""

import pytest

from steerzo_edge.data.normalization import normalized
from steerzo_edge.objectives.metrics import (
    accuracy,
    balanced_accuracy,
    binary_f1,
    exact_match,
    token_f1,
)


def test_accuracy_is_the_share_that_is_right() -> None:
    assert accuracy([0, 1, 2, 1], [0, 1, 1, 1]) == 0.75
    assert accuracy([0], [1]) == 0


def test_balanced_accuracy_does_not_reward_the_frequent_class() -> None:
    answers = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    assert accuracy(answers, [0] * 10) == 0.8
    assert balanced_accuracy(answers, [0] * 10) == 0.5
    # 6 of 8 and 1 of 2.
    assert balanced_accuracy(answers, [0] * 6 + [1, 1, 1, 0]) == pytest.approx((6 / 8 + 1 / 2) / 2)
    # Three classes, of which one does not occur among the answers.
    assert balanced_accuracy([0, 2, 2], [1, 2, 0]) == pytest.approx((0 + 1 / 2) / 2)


def test_binary_f1() -> None:
    # 2 hits, 1 miss, 1 false alarm: precision 2/3, recall 2/3.
    assert binary_f1([1, 1, 1, 0, 0], [1, 1, 0, 1, 0]) == pytest.approx(2 / 3)
    # precision 1/2, recall 1.
    assert binary_f1([1, 0], [1, 1]) == pytest.approx(2 * 0.5 / 1.5)
    assert binary_f1([0, 0], [0, 0]) == 0
    assert binary_f1([1, 1], [0, 0]) == 0
    assert binary_f1([0, 1], [0, 0], positive=0) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The  Eiffel Tower!", "eiffel tower"),
        ("an apple, a day", "apple day"),
        ("Athens", "athens"),
        ("U.S.A.", "usa"),
        ("\n the\tend ", "end"),
        ("The", ""),
    ],
)
def test_normalized_answers(text: str, plain: str) -> None:
    assert normalized(text) == plain


@pytest.mark.parametrize(
    ("answer", "references", "f1", "exact"),
    [
        ("the Normans.", ["Normans"], 1, 1),
        ("in the north of France", ["northern France", "France"], 2 / 5, 0),  # in north of france: 1 of 4, 1 of 1
        ("Saint Bernadette", ["Saint Bernadette Soubirous"], 4 / 5, 0),
        ("17", ["7", "10"], 0, 0),
        ("17 points", ["seventeen", "17"], 2 / 3, 0),
        ("very very good", ["very good good"], 2 / 3, 0),  # a repeated word counts as often as both have it
        ("", ["something"], 0, 0),
        ("the", ["a"], 1, 1),
    ],
)
def test_generated_answers(answer: str, references: list[str], f1: float, exact: float) -> None:
    assert token_f1(answer, references) == pytest.approx(f1)
    assert exact_match(answer, references) == exact
