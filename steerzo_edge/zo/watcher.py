"""The watcher: a run that goes wrong, or nowhere, is told so in words and made to back off.

    diverged               half of what was gained is lost, and a tenth of the best loss besides
                           -> back to the best adapter, half the rate
    never-left-the-start   no evaluation was better than the base
                           -> it stands still: three times the rate; it rises: back to the start, a third of it
    plateau                no better loss for `patience` evaluations, while the rate is still high
                           -> back to the best adapter, half the rate

After `retries` such turns the run is ended instead: hours more would not help. A pure function of the evaluations
and of its own earlier verdicts, so that a run that was killed is judged the same when it goes on.
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
    """

    patience: int = 8
    retries: int = 2

    def judge(
        self, evaluations: Sequence[EvalRecord], verdicts: Sequence[WatchRecord], share: float
    ) -> WatchRecord | None:
        """A verdict, or None if all is well.

        Args:
            evaluations: All of the run, the one at step 0 first.
            verdicts: Its own, so far.
            share: Of the peak rate that the schedule gives to the next step: a run that is coming to rest has no
                plateau to be saved from.
        """
        if len(evaluations) < 2:
            return None
        start, now = evaluations[0], evaluations[-1]
        best = min(evaluations, key=lambda record: record.loss)
        since = [record for record in evaluations if record.step > (verdicts[-1].step if verdicts else 0)]
        bound = best.loss + LOST * (start.loss - best.loss) + WORSE * abs(best.loss)
        if not now.loss <= bound:  # nan is no better
            return self._diverged(start, best, now, verdicts)
        if len(since) < self.patience:
            return None
        if best.loss > start.loss - EQUAL * abs(start.loss):
            return self._never_left(start, now, verdicts)
        recent = min(record.loss for record in since[-self.patience :])
        earlier = [record.loss for record in evaluations if record.step < since[-self.patience].step]
        if share > BACK_OFF and earlier and recent > min(earlier) * (1 - EQUAL):
            return self._plateau(best, now, verdicts)
        return None

    def _diverged(
        self, start: EvalRecord, best: EvalRecord, now: EvalRecord, verdicts: Sequence[WatchRecord]
    ) -> WatchRecord:
        seen = (
            f"the loss on validation rows rose to {now.loss:.4f}; it was {start.loss:.4f} at the start and "
            f"{best.loss:.4f} at its best, after {best.step} steps"
        )
        return self._turn("diverged", seen, now, verdicts, BACK_OFF, best.step)

    def _never_left(self, start: EvalRecord, now: EvalRecord, verdicts: Sequence[WatchRecord]) -> WatchRecord:
        seen = f"after {now.step} steps no evaluation was better than the base's loss of {start.loss:.4f}"
        if now.loss > start.loss * (1 + EQUAL):
            return self._turn("never-left-the-start", seen, now, verdicts, 1 / TRY_OTHER, 0)
        return self._turn("never-left-the-start", seen, now, verdicts, TRY_OTHER, None)

    def _plateau(self, best: EvalRecord, now: EvalRecord, verdicts: Sequence[WatchRecord]) -> WatchRecord:
        seen = (
            f"no better loss in {self.patience} evaluations; the best was {best.loss:.4f}, after {best.step} steps"
        )
        return self._turn("plateau", seen, now, verdicts, BACK_OFF, best.step)

    def _turn(
        self,
        verdict: str,
        seen: str,
        now: EvalRecord,
        verdicts: Sequence[WatchRecord],
        factor: float,
        back_to: int | None,
    ) -> WatchRecord:
        if len(verdicts) >= self.retries:
            done = (
                "the run ends here" if self.retries == 0 else f"backed off {len(verdicts)} times, the run ends here"
            )
            return WatchRecord(now.step, verdict, f"{verdict}: {seen}; {done}", 1.0, None, True)
        where = {None: "", 0: "back to the start, "}.get(back_to, f"back to the adapter after {back_to} steps, ")
        done = f"{where}learning rate times {factor:.3g}"
        return WatchRecord(now.step, verdict, f"{verdict}: {seen}; {done}", factor, back_to)
