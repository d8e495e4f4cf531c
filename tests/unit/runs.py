"""A small run in a directory: its profile, opened, and finished."""

from pathlib import Path

from steerzo_edge.model.base import Base
from steerzo_edge.run import Result, Run
from steerzo_edge.settings.profile import Profile, resolve
from tests.conftest import labelled_rows

STEPS = 13


def profile(**changes: object) -> Profile:
    document = {
        "subset": {"kind": "lora", "rank": 2},
        "method": {"kind": "guiding-vector", "pool": 3, "history": "keep-best", "epsilon": 0.01},
        "rule": {"kind": "adam", "learning_rate": 0.02},
        "batch": {"examples": 4, "max_tokens": 64},
        "steps": STEPS,
        "evaluate": {"every": 3, "holdout": 0.3},
    }
    return resolve(document, changes)


def open_run(path: Path, base: Base, **changes: object) -> Run:
    return Run(path, base, profile(**changes), labelled_rows(), seed=1, snapshot_every=4)


def finished(path: Path, base: Base, **changes: object) -> Result:
    run = open_run(path, base, **changes)
    list(run.records())
    run.close()
    return run.finish()
