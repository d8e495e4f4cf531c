"""A sweep in a directory, without a server: one run after the other, each in a directory of its own.

run-3f2a91c07b/                a run; its name depends on its settings
run-3f2a91c07b/outcome.json    what came out of it, written when it has ended
table.csv                      the table of all runs so far
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from steerzo_edge.curve.peak import peak_bytes, reset_peak
from steerzo_edge.data.examples import Dataset
from steerzo_edge.errors import CapacityError, ConflictError, SteerzoError
from steerzo_edge.model.base import Base
from steerzo_edge.records import Record, StepRecord
from steerzo_edge.run import Run
from steerzo_edge.run_tracking import sent, tracked
from steerzo_edge.storage.files import write_bytes, write_json
from steerzo_edge.sweep.ceiling import records_within, seconds_of
from steerzo_edge.sweep.outcomes import Outcome, csv_of, table_of
from steerzo_edge.sweep.trials import Trial

OUTCOME = "outcome.json"
TABLE = "table.csv"
OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)
NO_MEMORY = "the device's memory does not suffice"
Show = Callable[[Trial, Run, Iterator[Record]], None]


@dataclass(frozen=True, slots=True)
class LocalSweep:
    """The runs of a sweep and where they are.

    Args:
        directory: Made if missing. Runs that it holds are not run again, or go on where they stopped.
        base: The frozen model.
        trials: The runs.
        train: Rows to learn from.
        validation: Rows to evaluate on; None sets some of the others aside.
        seed: Of all runs.
    """

    directory: Path
    base: Base
    trials: Sequence[Trial]
    train: Dataset
    validation: Dataset | None
    seed: int

    def run(self, show: Show) -> Iterator[list[Outcome]]:
        """Runs what has not ended, one run after the other; yields the outcomes so far after each.

        A run that fails is in the table with its error, and the next one starts; it is tried again by a later call.

        Args:
            show: Is given each run and its records, and must read them to the end.

        Raises:
            ConflictError: If the directory holds a run of these settings on other rows, another base or seed.
        """
        found = self.known()
        self._write(found)
        for index, trial in enumerate(self.trials):
            if found[index].state == "succeeded":
                continue
            try:
                found[index] = self._made(trial, show)
            except (SteerzoError, *OUT_OF_MEMORY) as error:
                known = error if isinstance(error, SteerzoError) else CapacityError(NO_MEMORY)
                found[index] = replace(self._known(trial), state="failed", error=str(known))
            self._write(found)
            yield list(found)

    def known(self) -> list[Outcome]:
        """The outcomes as the directory has them.

        Raises:
            ConflictError: As `run`.
        """
        return [self._known(trial) for trial in self.trials]

    def _made(self, trial: Trial, show: Show) -> Outcome:
        directory = self.directory / trial.key
        reset_peak(self.base.device)
        run = Run(directory, self.base, trial.profile, self.train, self.validation, seed=self.seed)
        with tracked(run, trial.key) as tracking:
            show(trial, run, sent(records_within(run, trial.most_seconds), tracking))
            result = run.finish()
            tracking.close("succeeded", result.after)
        steps = [record for record in run.recorded if isinstance(record, StepRecord)]
        outcome = Outcome(
            trial.key,
            trial.changes,
            "succeeded",
            run.progress.step,
            trial.profile.steps,
            loss=next((record.loss for record in reversed(steps) if record.loss is not None), None),
            evaluation=None if result.after is None else result.after.as_dict(),
            forwards=result.forwards,
            seconds=sum(map(seconds_of, run.recorded)),
            peak_bytes=peak_bytes(self.base.device),
            adapter=str(result.adapter),
        )
        write_json(directory / OUTCOME, {"of": self._identity(trial), "outcome": asdict(outcome)})
        return outcome

    def _known(self, trial: Trial) -> Outcome:
        """A run's outcome if it has ended; else one without a result."""
        path = self.directory / trial.key / OUTCOME
        if not path.is_file():
            return Outcome(trial.key, trial.changes, "waiting", 0, trial.profile.steps)
        stored: dict[str, Any] = json.loads(path.read_text())
        if stored["of"] != self._identity(trial):
            raise ConflictError(
                f"{path.parent} holds a run with other rows, another profile, base, seed or ceiling",
                hint="Give another --out, or delete this directory.",
            )
        return Outcome(**stored["outcome"])

    def _identity(self, trial: Trial) -> str:
        """What a run's outcome depends on, in one hash."""
        rows = (self.train, self.validation)
        learned = [None if one is None else one.fingerprint for one in rows]
        parts = [trial.profile.identity(), trial.most_seconds, self.seed, self.base.fingerprint, learned]
        return sha256(json.dumps(parts).encode()).hexdigest()

    def _write(self, outcomes: Sequence[Outcome]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        write_bytes(self.directory / TABLE, csv_of(table_of(outcomes)).encode())
