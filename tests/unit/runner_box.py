"""A runner and what it works with, in a directory."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from server.jobs.cleanup import JobCleanup, Retention
from server.jobs.retries import Retries
from server.jobs.runner import Runner
from server.store.adapter_store import AdapterStore
from server.store.database import Database
from server.store.datasets import DatasetTable
from server.store.directory import DataDirectory
from server.store.jobs import JobTable
from server.store.rows import JobRow
from steerzo_edge.model.base import Base
from steerzo_edge.settings.profile import resolve
from tests.conftest import labelled_rows
from tests.server.conftest import PROFILE, TASK

STEPS = 12


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Box:
    """A runner and what it works with, in a directory; made again after a crash."""

    def __init__(
        self,
        root: Path,
        base: Base,
        clock: Clock,
        retention: Retention | None = None,
        *,
        memory_bytes: int = 1 << 30,
    ) -> None:
        self.root, self.base, self.clock = root, base, clock
        self.posted = 0
        self.directory = DataDirectory(root)
        database = Database(self.directory.database)
        self.job_table = JobTable(database, now=clock)
        self.dataset_table = DatasetTable(database)
        self.adapters = AdapterStore.of(database, self.directory, self.job_table, memory_bytes=memory_bytes)
        self.cleanup = JobCleanup(
            self.job_table, self.directory, retention, forget=self.adapters.cache.forget, now=clock
        )
        self.runner = Runner(
            self.job_table,
            self.dataset_table,
            self.directory,
            self.cleanup,
            self.adapters,
            snapshot_every=3,
            retries=Retries(2, 10.0),
        )
        self.runner.start(base)

    def post(self, name: str | None = None, **changes: Any) -> JobRow:
        if not self.dataset_table.rows():
            rows = labelled_rows(20).rows()
            data = "".join(json.dumps(row) + "\n" for row in rows).encode()
            incoming, _ = self.directory.stage(data)
            self.directory.put(incoming, "ds_1.jsonl")
            self.dataset_table.add("ds_1", "rows", "ds_1.jsonl", {"format": "classification"})
        priority = changes.pop("priority", 0)
        profile = resolve(PROFILE, {"steps": STEPS, **changes})
        spec = {"dataset": "ds_1", "validation": None, "profile": profile.model_dump(mode="json"), "task": TASK}
        self.posted += 1
        return self.job_table.add(f"job_{self.posted}", name, {**spec, "seed": 0}, priority=priority)

    def time_slices(self) -> Iterator[None]:
        """What the device's thread would do, until nothing waits."""
        while (work := self.runner.next_job()) is not None:
            yield from work

    def work(self, time_slices: int | None = None) -> None:
        list(islice(self.time_slices(), time_slices))

    def again(self) -> "Box":
        return Box(self.root, self.base, self.clock)
