"""A run and its directory: start, resume, finish. The same for the server and `steerzo train`.

    journal                 header and one line a step; everything else can be made from it
    snapshot.safetensors    parameters and rule state a few steps back, so that a resume replays few steps
    best.safetensors        parameters at the best evaluation
    frozen.safetensors      the subset's frozen part, derived from seed, rows or weights before the first step
    adapter/                the result, a PEFT directory

Without the other files a resumed run ends with the same bits. With exact gradients or without `frozen.safetensors`
this holds only on the same machine with the same threads and versions, because sums round differently elsewhere.
"""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from steerzo_edge.assemble import assemble
from steerzo_edge.data.examples import Dataset
from steerzo_edge.estimate import advice_for
from steerzo_edge.model.adapter_file import save_adapter
from steerzo_edge.model.allocator import give_back
from steerzo_edge.model.base import Base
from steerzo_edge.model.frozen_file import load_frozen, save_frozen
from steerzo_edge.model.patches import Patches
from steerzo_edge.model.subset import Copies
from steerzo_edge.records import EvalRecord, Record, StepRecord, WatchRecord
from steerzo_edge.run_data import Data, fingerprint_as_read, remarks_of_run, rows_of_run
from steerzo_edge.run_journal import header_of_run, opened
from steerzo_edge.run_method import settled
from steerzo_edge.settings.profile import Profile
from steerzo_edge.training.loop import finetune
from steerzo_edge.training.pace import steps_of_first_pass
from steerzo_edge.training.parts import Parts
from steerzo_edge.training.progress import Progress
from steerzo_edge.training.rewinding import caught_up
from steerzo_edge.training.versions import load_version, save_version
from steerzo_edge.zo.entry import Entry

log = logging.getLogger(__name__)
SNAPSHOT_EVERY = 50
FROZEN = "frozen.safetensors"


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run.

    Args:
        adapter: Directory of the adapter.
        sha256: Of its weights file.
        step: Finished steps at the version that was kept.
        before: Evaluation of the untouched base, if there was one.
        after: Evaluation of the version that was kept, if there was one.
        forwards: Forward passes spent.
    """

    adapter: Path
    sha256: str
    step: int
    before: EvalRecord | None
    after: EvalRecord | None
    forwards: int


class Run:
    """A run in a directory, new or resumed.

    Args:
        directory: Made if missing. If it holds a journal, the run resumes where that ends.
        base: The frozen model.
        profile: The settings.
        train: Rows to learn from; some are set aside where `validation` is None.
        validation: Rows to evaluate on.
        seed: Of everything random.
        snapshot_every: Steps between snapshots; with exact gradients `method.snapshot_every` counts if it is less.
        data: `train` and `validation` as `tokenized` made them for this base, profile and seed; made here if None.

    Attributes:
        remarks: Sentences on the rows: fields that are not used, and rows that are probably mistakes.

    Raises:
        JournalError: If the directory belongs to a run of another base, data, profile or machine.
        InputError: If data and profile do not fit the base.
    """

    def __init__(
        self,
        directory: Path,
        base: Base,
        profile: Profile,
        train: Dataset,
        validation: Dataset | None = None,
        *,
        seed: int = 0,
        snapshot_every: int = SNAPSHOT_EVERY,
        data: Data | None = None,
    ) -> None:
        if data is None:
            train, validation, data = rows_of_run(
                base.tokenizer, base.context_length, profile, train, validation, seed
            )
        self.directory = directory
        self.remarks = remarks_of_run(train, validation, data)
        self._base = base
        self.profile, self._choice = settled(profile, base, data, directory)
        profile = self.profile
        self._snapshot_every = min(snapshot_every, getattr(profile.method, "snapshot_every", snapshot_every))
        self.data = data
        self.seed = seed
        self._keeps_best = profile.evaluate.keep == "best"
        learned = fingerprint_as_read(train, data.as_text[0])
        self._origin = json.dumps([seed, base.fingerprint, learned, profile.identity()])
        directory.mkdir(parents=True, exist_ok=True)
        self._served: tuple[int, Patches] | None = None
        self._settled: int | None = None  # the step whose result the parameters are, between two records
        self._parts = self._built()
        header = header_of_run(
            base,
            profile,
            seed,
            self._parts.blocks.noise,
            data=learned,
            validation=None if validation is None else fingerprint_as_read(validation, data.as_text[1]),
        )
        self._journal = opened(directory / "journal", header)
        self._keep_frozen()
        self.progress = Progress.of(self._journal.entries)
        self._catch_up(self._parts, self.progress.step, self._journal.entries, self.progress.verdicts)

    @property
    def recorded(self) -> Iterator[Record]:
        """Every record in the journal, also those from before a resume, read from the file."""
        return (entry.record for entry in self._journal.entries)

    def recorded_between(self, first: int, last: int) -> list[Record]:
        """The journal's records from an index up to another, read from the file; may be called from any thread."""
        return [entry.record for entry in self._journal.entries[first:last]]

    @property
    def record_count(self) -> int:
        """How many records the journal has."""
        return len(self._journal.entries)

    @property
    def device(self) -> torch.device:
        """Where the base is."""
        return self._base.device

    @property
    def size(self) -> int:
        """d, the number of trained parameters."""
        return self._parts.blocks.noise.size

    @property
    def first_pass(self) -> int:
        """Steps until every row has been seen once, if those steps also compute its frozen prefix; else 0."""
        first_layer = 0 if self._parts.prefix is None else self._parts.prefix.first_layer
        return steps_of_first_pass(len(self.data.train.rows), self.profile.batch.examples, first_layer)

    def records(self) -> Iterator[Record]:
        """Runs to the end, yielding each new record. Stop iterating to pause or cancel."""
        steps = finetune(
            self._parts,
            journal=self._journal.append,
            progress=self.progress,
            rewind=self._rewind,
            clock=lambda: time.perf_counter() - self._base.preempted_s,
        )
        for record in steps:
            # A rewind needs the best version's file where the journal does not hold what moved the parameters.
            if (
                isinstance(record, EvalRecord)
                and record.best
                and (self.profile.method.keeps_versions or self._keeps_best)
            ):
                self._save("best.safetensors", record.step)
            if isinstance(record, StepRecord) and self.progress.step % self._snapshot_every == 0:
                self._save("snapshot.safetensors", self.progress.step)
            self._settled = self.progress.step
            yield record
            self._settled = None

    def end_early(self) -> None:
        """Ends the run after its last finished step, or the first: `records` then gives a last evaluation."""
        self.progress.ends_at = max(1, self.progress.step)

    def patches(self) -> Patches:
        """The adapter at the last finished step, ready to be made active.

        Returns:
            A copy that later steps do not change; the same object until the next step is finished.
        """
        step = self.progress.step
        if self._served is None or self._served[0] != step:
            self._served = step, Copies(self._parts.subset, 1).hold()
        return self._served[1]

    def advice(self) -> str:
        """A sentence on the method: what `auto` chose, or whether back-propagation would be faster."""
        if self._choice is not None:
            return self._choice
        rows = [self.data.train] + ([] if self.data.validation is None else [self.data.validation])
        return advice_for(self._base, self.profile, *rows)

    def finish(self) -> Result:
        """Writes the adapter: the best evaluation's, or the last step's. May be called at any step.

        Raises:
            OSError: If the disk is full or fails.
        """
        self._keep_last_step()
        best = self.progress.best
        step = self.progress.parameter_step
        if best is not None and self._keeps_best:
            step = best.step
            self._restore_best(best)
        directory = self.directory / "adapter"
        sha256 = save_adapter(directory, self._parts.subset, self._base)
        evaluations = self.progress.evaluations
        return Result(
            adapter=directory,
            sha256=sha256,
            step=step,
            before=next((record for record in evaluations if record.step == 0), None),
            after=next((record for record in evaluations if record.step == step), None),
            forwards=self.progress.forwards,
        )

    def close(self) -> None:
        """Closes the journal, removes files that can be computed again, and returns memory that is free."""
        self._keep_last_step()
        self._journal.close()
        if self._parts.prefix is not None:
            log.info("frozen prefix of %s: %s", self.directory.name, self._parts.prefix.usage)
            self._parts.prefix.close()
        give_back()

    def _keep_last_step(self) -> None:
        """With exact gradients: saves what a resume would have to compute again, if the last step was completed."""
        step, self._settled = self._settled, None
        keeps = self.profile.method.keeps_versions
        if keeps and step == self.progress.parameter_step and step % self._snapshot_every:
            with suppress(OSError):  # without it, steps since the last snapshot are computed again
                self._save("snapshot.safetensors", step)

    def _built(self) -> Parts:
        """Freshly built parts, in the state of the start of the run."""
        frozen = load_frozen(self.directory / FROZEN, self._origin)
        self._frozen_is_kept = frozen is not None
        return assemble(self._base, self.profile, self.data, self.seed, self.directory, frozen)

    def _keep_frozen(self) -> None:
        """Saves the frozen part; called after the journal was checked, so another run's file is never replaced."""
        frozen = self._parts.subset.frozen
        if frozen.numel() and not self._frozen_is_kept:
            save_frozen(self.directory / FROZEN, frozen, self._origin)

    def _catch_up(
        self, parts: Parts, step: int, entries: Sequence[Entry], verdicts: Sequence[WatchRecord] | None = None
    ) -> None:
        """Brings freshly built parts to their state after `step` steps."""
        names = ("snapshot.safetensors", "best.safetensors")
        versions = (partial(load_version, self.directory / name, at_most=step) for name in names)
        caught_up(parts, entries, step, versions, verdicts)

    def _rewind(self, step: int) -> None:
        """Takes the live parameters and rule back to their state after `step` steps."""
        live = self._parts
        frozen = live.subset.frozen if live.subset.frozen.numel() else None
        then = assemble(self._base, self.profile, self.data, self.seed, None, frozen, prefix=live.prefix)
        self._catch_up(then, step, self._journal.entries, self.progress.verdicts)
        live.subset.parameters.copy_(then.subset.parameters)
        live.rule.restore(then.rule.state())
        self._served = None

    def _restore_best(self, best: EvalRecord) -> None:
        loaded = load_version(self.directory / "best.safetensors", at_most=best.step)
        if loaded is not None and loaded[0] == best.step:
            self._parts.subset.parameters.copy_(loaded[1]["parameters"])
            return
        # The file is missing, or a crash came between the journal's line and the file: replay up to that line,
        # without the verdicts after it.
        self._parts = self._built()
        self._served = None
        entries = self._journal.entries
        upto = next(index for index, entry in enumerate(entries) if entry.record == best)
        self._catch_up(self._parts, best.step, entries[: upto + 1])

    def _save(self, name: str, step: int) -> None:
        save_version(self.directory / name, step, self._parts)
