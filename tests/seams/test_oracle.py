"""A new evaluator of probes is one class with `evaluate(Round)` and `follow(entry)`; the loop takes it as it is.

Here it is a pair of workers that share nothing with the run but the base: each builds its own parameters from seed
and profile, gets every message as JSON, and moves its parameters by the journal's entries.
"""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from steerzo_edge.assemble import assemble
from steerzo_edge.model.base import Base
from steerzo_edge.records import Record, StepRecord, WatchRecord
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.loop import finetune
from steerzo_edge.training.parts import Parts
from steerzo_edge.training.rewinding import caught_up
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.oracle import Round
from steerzo_edge.zo.replay import apply
from tests.conftest import Loader, labelled_rows

SETTINGS: dict[str, Any] = {
    "subset": {"kind": "lora", "rank": 4, "last_layers": 2, "block_layers": 1},
    "method": {"kind": "weighted-guide", "pool": 4, "epsilon": 0.01, "scaling": "normalized"},
    "rule": {"kind": "adam", "learning_rate": 0.01},
    "batch": {"examples": 4, "max_tokens": 64, "probes_per_forward": 1},
    "evaluate": {"every": 2, "examples": 4},
    "steps": 8,
}


def parts_of(base: Base) -> Parts:
    profile = resolve(SETTINGS)
    rows = labelled_rows()
    return assemble(base, profile, tokenized(base.tokenizer, 256, profile, rows, rows, seed=3), seed=3)


class Worker:
    """Evaluates what it is sent, on parameters of its own."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._entries: list[Entry] = []
        self.parts = parts_of(base)

    def losses(self, message: str) -> str:
        return json.dumps(self.parts.oracle.evaluate(Round.of_json(json.loads(message))))

    def follow(self, message: str) -> None:
        entry = Entry.of_json(json.loads(message))
        self._entries.append(entry)
        if isinstance(entry.record, WatchRecord) and entry.record.back_to is not None:
            self.parts = parts_of(self._base)
            caught_up(self.parts, self._entries, entry.record.back_to)
            return
        apply(entry, self.parts.subset, self.parts.rule, self.parts.blocks)
        self.parts.oracle.follow(entry)


class Shared:
    """Gives every other probe of a round to the second worker."""

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers
        self.sizes: list[int] = []

    def evaluate(self, round: Round) -> list[float]:
        losses = [0.0] * len(round.probes)
        for number, worker in enumerate(self.workers):
            share = range(number, len(round.probes), len(self.workers))
            if not share:
                continue
            message = json.dumps(replace(round, probes=tuple(round.probes[i] for i in share)).as_json())
            self.sizes.append(len(message))
            for index, loss in zip(share, json.loads(worker.losses(message)), strict=True):
                losses[index] = loss
        return losses

    def follow(self, entry: Entry) -> None:
        message = json.dumps(entry.as_json())
        self.sizes.append(len(message))
        for worker in self.workers:
            worker.follow(message)


def finished(parts: Parts, base: Base, entries: list[Entry]) -> list[Record]:
    def rewind(step: int) -> None:
        then = parts_of(base)
        caught_up(then, entries, step)
        parts.subset.parameters.copy_(then.subset.parameters)
        parts.rule.restore(then.rule.state())

    return list(finetune(parts, journal=entries.append, rewind=rewind))


def steps_of(records: list[Record]) -> list[tuple[float | None, float]]:
    return [(record.loss, record.slope) for record in records if isinstance(record, StepRecord)]


def test_workers_elsewhere_give_the_same_bytes(tiny: Loader) -> None:
    base = tiny("nf4", torch.bfloat16)
    alone = parts_of(base)
    entries: list[Entry] = []
    expected = finished(alone, base, entries)

    plain = parts_of(base)
    workers = [Worker(base), Worker(base)]
    shared = Shared(workers)
    found = finished(replace(plain, oracle=shared), base, [])
    assert steps_of(found) == steps_of(expected)
    for parts in (plain, *(worker.parts for worker in workers)):
        assert torch.equal(parts.subset.parameters, alone.subset.parameters)
        for name, state in alone.rule.state().items():
            assert torch.equal(parts.rule.state()[name], state)
    assert max(shared.sizes) < 1000


def test_workers_follow_a_run_that_is_rewound(tiny: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny("nf4", torch.bfloat16)

    def judged(parts: Parts) -> Parts:
        class Once:
            """Takes the run back to step 2 when it is at step 6."""

            def judge(self, evaluations: Any, verdicts: Any, share: float) -> WatchRecord | None:
                if evaluations[-1].step != 6 or verdicts:
                    return None
                return WatchRecord(6, "diverged", "as if", 0.5, 2)

        return replace(parts, watcher=Once())  # type: ignore[arg-type]

    alone = judged(parts_of(base))
    entries: list[Entry] = []
    expected = finished(alone, base, entries)
    assert any(isinstance(record, WatchRecord) for record in expected)

    workers = [Worker(base)]
    plain = judged(parts_of(base))
    found = finished(replace(plain, oracle=Shared(workers)), base, [])
    assert steps_of(found) == steps_of(expected)
    assert torch.equal(workers[0].parts.subset.parameters, alone.subset.parameters)


def test_a_worker_that_does_not_follow_gives_other_losses(tiny: Loader) -> None:
    """The negative control: messages that are not passed on are noticed."""
    base = tiny("nf4", torch.bfloat16)
    expected = finished(parts_of(base), base, [])

    class Deaf(Shared):
        def follow(self, entry: Entry) -> None:
            pass

    found = finished(replace(parts_of(base), oracle=Deaf([Worker(base)])), base, [])
    assert steps_of(found) != steps_of(expected)


def test_messages_come_back_as_they_were(tiny: Loader) -> None:
    entries: list[Entry] = []
    finished(parts_of(tiny("nf4", torch.bfloat16)), tiny("nf4", torch.bfloat16), entries)
    for entry in entries:
        assert Entry.of_json(json.loads(json.dumps(entry.as_json()))) == entry
