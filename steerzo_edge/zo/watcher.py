"""The watcher: sees from the evaluations that a run fails or stands still, reports it, and lowers the rate.

    diverged               half of the improvement is lost, and the loss is a tenth above the best; or no loss is
                           finite any more
                           -> back to the best adapter, half the rate
    never-left-the-start   no evaluation was better than the base
                           -> the loss stands still: three times the rate; it rises: back to the start, a third of
                           the rate
    plateau                no better loss for `patience` evaluations, while the rate is still high
                           -> back to the best adapter, half the rate

After `retries` such verdicts the run is ended instead, with the best adapter. The best evaluation is the one that
the run records as best (by its metric, then by loss), and it never counts as a failure; verdicts compare losses, or
1 - score where the loss is not what is minimised. The watcher is a pure function of the evaluations and of its own
earlier verdicts, so a run that was killed gets the same verdicts when it is resumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from steerzo_edge.records import EvalRecord, WatchRecord

# Losses within this share of each other count as equal: evaluations see a few hundred rows.
EQUAL = 0.005
WORSE = 0.1
LOST = 0.5
BACK_OFF = 0.5
TRY_OTHER = 3.0


@dataclass(frozen=True, slots=True)
class Watcher:
    """Judges a run at its evaluations.

    Args:
        patience: Evaluations without progress that make a plateau.
        retries: How often it may back off before the run is ended.
        by_score: Go by 1 - score instead of the loss.
    """

    patience: int = 8
    retries: int = 2
    by_score: bool = False

    def judge(
        self, evaluations: Sequence[EvalRecord], verdicts: Sequence[WatchRecord], share: float
    ) -> WatchRecord | None:
        """A verdict, or None if all is well.

        Args:
            evaluations: All of the run, the one at step 0 first.
            verdicts: Its own, so far.
            share: Of the peak rate that the schedule gives to the next step: near the end of the schedule a
                plateau is expected, and is no verdict.
        """
        if len(evaluations) < 2 or evaluations[-1].best:
            return None
        values = [self._value(record) for record in evaluations]
        start, now, lowest = values[0], values[-1], min(values)
        step, best = evaluations[-1].step, _best(evaluations)
        bound = lowest + LOST * (start - lowest) + WORSE * abs(lowest)
        if not now <= bound:  # nan is no better
            seen = f"validation rose to {now:.4f}; it was {start:.4f} at the start and {lowest:.4f} at its lowest"
            return self._turn("diverged", seen, step, verdicts, BACK_OFF, best)
        since = [record for record in evaluations if record.step > (verdicts[-1].step if verdicts else 0)]
        if len(since) < self.patience:
            return None
        if lowest > start - EQUAL * abs(start):
            seen = f"after {step} steps no evaluation was clearly better than the base's {start:.4f}"
            if now > start * (1 + EQUAL):
                return self._turn("never-left-the-start", seen, step, verdicts, 1 / TRY_OTHER, 0)
            return self._turn("never-left-the-start", seen, step, verdicts, TRY_OTHER, None)
        earlier = [self._value(record) for record in evaluations if record.step < since[-self.patience].step]
        recent = min(values[-self.patience :])
        if share > BACK_OFF and earlier and recent > min(earlier) * (1 - EQUAL):
            seen = f"no evaluation better than {lowest:.4f} in the last {self.patience}"
            return self._turn("plateau", seen, step, verdicts, BACK_OFF, best)
        return None

    def rescue(
        self, step: int, evaluations: Sequence[EvalRecord], verdicts: Sequence[WatchRecord], skipped: int
    ) -> WatchRecord:
        """The verdict on a run whose losses are not finite any more.

        Args:
            step: Number of finished steps.
            evaluations: All of the run.
            verdicts: Its own, so far.
            skipped: Steps in a row without a finite loss.
        """
        seen = f"{skipped} steps in a row had no finite loss"
        return self._turn("diverged", seen, step, verdicts, BACK_OFF, _best(evaluations))

    def _value(self, record: EvalRecord) -> float:
        if self.by_score and record.score is not None:
            return 1 - record.score
        return record.loss

    def _turn(
        self,
        verdict: str,
        seen: str,
        step: int,
        verdicts: Sequence[WatchRecord],
        factor: float,
        back_to: int | None,
    ) -> WatchRecord:
        where = {None: "", 0: "back to the start, "}.get(back_to, f"back to the adapter after {back_to} steps, ")
        if len(verdicts) >= self.retries:
            done = f"{where}the run ends here, having backed off {len(verdicts)} times"
            return WatchRecord(step, verdict, f"{verdict}: {seen}; {done}", 1.0, back_to, True)
        done = f"{where}learning rate times {factor:.3g}"
        return WatchRecord(step, verdict, f"{verdict}: {seen}; {done}", factor, back_to)


def _best(evaluations: Sequence[EvalRecord]) -> int:
    """The step of the best so far, as the run itself has judged."""
    return max((record.step for record in evaluations if record.best), default=0)
