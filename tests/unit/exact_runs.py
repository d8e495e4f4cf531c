"""Runs with exact gradients, for tests."""

from pathlib import Path

from steerzo_edge.model.base import Base
from steerzo_edge.run import Result, Run
from steerzo_edge.settings.profile import Profile, resolve
from tests.conftest import labelled_rows

STEPS = 11
DOCUMENT = {
    "subset": {"kind": "lora", "rank": 2, "freeze_a": False},
    "method": {"kind": "exact", "snapshot_every": 4},
    "rule": {"kind": "adam", "learning_rate": 0.01},
    "batch": {"examples": 4, "max_tokens": 64},
    "steps": STEPS,
    "evaluate": {"every": 3, "holdout": 0.3},
}


def profile(**changes: object) -> Profile:
    return resolve(DOCUMENT, changes)


def opened(path: Path, base: Base, **changes: object) -> Run:
    return Run(path, base, profile(**changes), labelled_rows(), seed=1)


def finished(path: Path, base: Base, **changes: object) -> Result:
    run = opened(path, base, **changes)
    list(run.records())
    result = run.finish()
    run.close()
    return result
