"""The watcher's verdicts, on made-up evaluations."""

import math
from itertools import pairwise

import pytest

from steerzo_edge.records import EvalRecord, WatchRecord
from steerzo_edge.zo.watcher import Watcher


def evaluations(*losses: float) -> list[EvalRecord]:
    """One every 10 steps, the first at step 0; the best so far is the lowest loss."""
    return [
        EvalRecord(10 * index, loss, None, 8, all(loss < before for before in losses[:index]))
        for index, loss in enumerate(losses)
    ]


def judged(*losses: float, verdicts: tuple[WatchRecord, ...] = (), share: float = 1.0) -> WatchRecord | None:
    return Watcher(patience=4, retries=2).judge(evaluations(*losses), verdicts, share)


def test_a_run_that_learns_is_not_changed() -> None:
    losses = [2.0, 1.8, 1.7, 1.75, 1.5, 1.4, 1.3, 1.32, 1.2]
    for end in range(1, len(losses) + 1):
        assert judged(*losses[:end]) is None


@pytest.mark.parametrize("last", [1.7, 9.0, math.nan, math.inf])
def test_a_loss_that_rises_again_goes_back_to_the_best(last: float) -> None:
    found = judged(2.0, 1.2, 1.0, last)
    assert found is not None
    assert (found.verdict, found.back_to, found.stop) == ("diverged", 20, False)
    assert found.factor < 1
    assert "back to the adapter after 20 steps" in found.message
    assert judged(2.0, 1.2, 1.0, 1.4) is None  # noise of an evaluation


def test_a_run_that_diverges_at_once_goes_back_to_the_start() -> None:
    found = judged(1.0, 3.0)
    assert found is not None
    assert (found.verdict, found.back_to) == ("diverged", 0)
    assert "back to the start" in found.message


def test_a_run_that_never_improved_raises_or_lowers_its_rate() -> None:
    still = judged(1.0, 1.0, 1.001, 0.999, 1.0)
    assert still is not None
    assert (still.verdict, still.back_to) == ("never-left-the-start", None)
    assert still.factor > 1  # too timid
    risen = judged(1.0, 1.02, 1.03, 1.04, 1.05)
    assert risen is not None
    assert (risen.verdict, risen.back_to) == ("never-left-the-start", 0)
    assert risen.factor < 1  # too bold


def test_a_plateau_counts_only_while_the_rate_is_high() -> None:
    losses = (2.0, 1.5, 1.0, 1.01, 1.02, 1.0, 1.01)
    found = judged(*losses)
    assert found is not None
    assert (found.verdict, found.back_to) == ("plateau", 20)
    assert judged(*losses, share=0.2) is None  # coming to rest by itself


def test_after_its_retries_the_run_ends() -> None:
    before = tuple(WatchRecord(step, "diverged", "", 0.5, 0) for step in (10, 20))
    found = judged(1.0, 3.0, 3.0, 3.0, verdicts=before)
    assert found is not None
    assert found.stop
    assert "ends here" in found.message
    patient = judged(2.0, 1.0, 1.0, 1.0, 1.01, 1.0, verdicts=before[:1])
    assert patient is None or not patient.stop


def test_the_last_rewind_still_returns_to_the_best_step() -> None:
    before = tuple(WatchRecord(step, "diverged", "", 0.5, 10) for step in (20, 30))
    found = judged(2.0, 1.0, 3.0, 3.0, 3.0, verdicts=before)
    assert found is not None
    assert (found.stop, found.back_to, found.factor) == (True, 10, 1.0)


def test_the_best_by_its_own_metric_is_never_a_failure() -> None:
    """A loss may rise while more rows are answered right."""
    rows = [(0.69, 0.5, True), (0.66, 0.6, True), (0.95, 0.8, True), (0.96, 0.7, False)]
    records = [EvalRecord(10 * i, loss, score, 8, best, {}, score) for i, (loss, score, best) in enumerate(rows)]
    watcher = Watcher(patience=4, retries=2)
    assert watcher.judge(records[:3], (), 1.0) is None
    by_loss = watcher.judge(records, (), 1.0)
    assert by_loss is not None
    assert by_loss.back_to == 20  # what the run calls best, not the lowest loss
    assert Watcher(4, 2, by_score=True).judge(records, (), 1.0) is None


def test_a_run_without_numbers_is_rescued_then_ended() -> None:
    watcher = Watcher(patience=4, retries=1)
    first = watcher.rescue(37, evaluations(2.0, 1.0, 1.5), (), 25)
    assert (first.step, first.verdict, first.back_to, first.stop) == (37, "diverged", 10, False)
    assert "25 steps in a row" in first.message
    second = watcher.rescue(70, evaluations(2.0, 1.0, 1.5), (first,), 25)
    assert second.stop


def test_a_change_of_rate_resets_the_patience() -> None:
    losses = (2.0, 1.5, 1.0, 1.01, 1.02, 1.0, 1.01)
    verdict = WatchRecord(60, "plateau", "", 0.5, 20)
    for more in range(1, 4):
        assert judged(*losses, *[1.0] * more, verdicts=(verdict,)) is None
    again = judged(*losses, *[1.0] * 4, verdicts=(verdict,))
    assert again is not None
    assert all(a.step < b.step for a, b in pairwise([verdict, again]))
