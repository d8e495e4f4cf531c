"""One mode of `benchmarks.chaos`: disturbs a server again and again while it works on a fleet of jobs."""

import argparse
import hashlib
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from benchmarks.chaos_tally import Tally
from benchmarks.fleet import FINAL, Fleet, losses_of, settings_of
from benchmarks.lives import Life, SeededRandom, answer_or_none, failing_fsync, free_port
from server.commands.client import Client
from steerzo_edge.errors import SteerzoError

FILE_SYSTEM_MIB = 160  # a server with less than 64 MiB says that it is not ready


class Storm:
    """Starts one server after the other and disturbs it; the last one is left alone until all jobs have ended.

    Args:
        root: Of this mode's files.
        fleet: The jobs.
        mode: How it is disturbed.
        number: How often.
        options: Of the command.
    """

    def __init__(self, root: Path, fleet: Fleet, mode: str, number: int, options: argparse.Namespace) -> None:
        self._root, self._fleet, self._mode, self._number, self._options = root, fleet, mode, number, options
        # The log is not on the disk that will be full.
        self._disk, self._log = root / "disk", root / "server.log"
        self._data = self._disk / "data"
        self._port = free_port()
        self._random = SeededRandom(options.seed)
        self._tally = Tally(mode)
        self._dataset: str | None = None
        self._jobs: dict[str, str] = {}  # by name and number, the id
        self._uploads: dict[str, str] = {}  # by id, the hash of uploads that were answered

    def run(self) -> Tally:
        """Runs the mode to its end."""
        self._disk.mkdir(parents=True)
        began = time.monotonic()
        disturbed: Callable[[], None] = {
            "kill": self._killed,
            "torn": self._torn,
            "full": self._full,
            "broken": self._broken,
        }[self._mode]
        with Client(f"http://127.0.0.1:{self._port}") as self._client:
            disturbed()
            if self._jobs:
                self._calm()
        self._tally.seconds = round(time.monotonic() - began, 1)
        return self._tally

    def _life(self, sabotage: Callable[[], None] | None = None) -> Life:
        self._tally.starts += 1
        return Life(self._data, self._port, self._log, settings_of(self._options), sabotage)

    def _killed(self) -> None:
        """Kills during start-up (a quarter of the kills), uploads (a quarter) and steps (the others)."""
        startup_s = 1.0
        while self._tally.disturbances < self._number:
            life = self._life()
            if self._random.number() < 0.25:
                life.kill_in(self._random.number(startup_s))
                self._tally.saw("start-up")
            elif life.ready(self._client):
                startup_s = time.monotonic() - life.began
                self._work_on()
                uploading = self._random.number() < 0.34
                life.kill_in(self._random.number(0.05 if uploading else 0.7))
                self._tally.saw("upload" if uploading else "jobs")
                if uploading:
                    while not life.is_over:
                        self._upload()
            life.wait()

    def _torn(self) -> None:
        while self._tally.disturbances < self._number:
            life = self._life()
            if life.ready(self._client):
                self._work_on()
                life.kill_in(self._random.number(0.7))
                life.wait()
                self._tear()

    def _tear(self) -> None:
        """Appends half a line to the journals of jobs that are not done."""
        for journal in self._data.glob("jobs/*/journal"):
            whole = journal.read_bytes()
            last = whole[whole.rstrip(b"\n").rfind(b"\n") + 1 :]
            if (journal.parent / "adapter").exists() or not whole.endswith(b"\n") or len(last) < 4:
                continue
            with journal.open("ab") as file:
                file.write(last[: 1 + self._random.choice(len(last) - 2)])
            self._tally.saw("torn line")

    def _full(self) -> None:
        """Fills the file system of the data with one large file, again and again."""
        mount = ["mount", "-t", "tmpfs", "-o", f"size={FILE_SYSTEM_MIB}m", "tmpfs", str(self._disk)]
        subprocess.run(mount, check=True)
        life = self._life()
        try:
            life.ready(self._client)
            while self._tally.disturbances < self._number:
                self._work_on()
                time.sleep(self._random.number(0.6))
                self._fill()
                self._upload()
                time.sleep(self._random.number(0.6))
                (self._disk / "balloon").unlink()
                self._tally.saw("disk full")
                if life.is_over:
                    life = self._life()
                    life.ready(self._client)
            self._calm(life)
        finally:
            life.end(signal.SIGKILL)
            subprocess.run(["umount", str(self._disk)], check=True)

    def _fill(self) -> None:
        with (self._disk / "balloon").open("wb", buffering=0) as balloon, suppress(OSError):
            while True:
                balloon.write(bytes(1 << 16))

    def _broken(self) -> None:
        for seed in range(max(self._number // 10, 1)):
            life = self._life(failing_fsync(seed, 0.05))
            if life.ready(self._client):
                for _ in range(10):
                    self._work_on()
                    self._upload()
                    time.sleep(self._random.number(0.5))
                    self._tally.saw("fsync fails, 1 in 20")
            life.end()

    def _work_on(self) -> None:
        """Submits jobs when few are queued; a request without an answer is sent again later."""
        if self._dataset is None:
            body = {"rows": self._fleet.rows, "name": "rows"}
            found = self._asked(lambda client: client.post("/datasets", body))
            self._dataset = found and found["id"]
        if self._dataset is None:
            return
        listed = self._asked(lambda client: client.get("/jobs?state=queued"))
        if listed is None or len(listed["jobs"]) > len(self._fleet.bodies) // 2:
            return
        names = list(self._fleet.bodies)
        for name in names[: len(names) // 2] if self._random.number() < 0.5 else names[len(names) // 2 :]:
            number = sum(key.startswith(f"{name}/") for key in self._jobs)
            key = f"{name}/{number}"
            body = {"dataset": self._dataset, **self._fleet.bodies[name]}
            posted = self._asked(lambda client: _post(client, body, key))  # noqa: B023
            if posted is not None:
                self._jobs[key] = posted["id"]

    def _upload(self) -> None:
        """Uploads new rows of a few hundred kilobytes."""
        mark = self._random.choice(2**31)
        rows = "".join(f'{{"prompt": "{mark} {i}", "completion": "{"x" * 200}"}}\n' for i in range(1000)).encode()
        path = self._root / "upload.jsonl"
        path.write_bytes(rows)
        answered = self._asked(lambda client: client.upload(path, str(mark)))
        self._tally.uploads += 1
        if answered is not None:
            self._uploads[answered["id"]] = hashlib.sha256(rows).hexdigest()

    def _asked(self, call: Callable[[Client], Any]) -> Any | None:
        """The answer; None if there was none, or if the server refused for lack of room or time."""
        try:
            return answer_or_none(self._client, call)
        except SteerzoError as error:
            if str(error).startswith(("507", "503", "429")):
                return None
            raise

    def _calm(self, life: Life | None = None) -> None:
        """Lets every job end, and counts what is not as it should be."""
        life = life or self._life()
        if not life.ready(self._client):
            raise SteerzoError("the server does not start any more", hint=f"See {self._log}.")
        tally = self._tally
        deadline = time.monotonic() + 600
        for key, id in self._jobs.items():
            while (job := self._client.get(f"/jobs/{id}"))["state"] not in FINAL and time.monotonic() < deadline:
                time.sleep(0.02)
            sha256, losses = self._fleet.expected[key.partition("/")[0]]
            tally.jobs += 1
            tally.steps += len(losses)
            if job["state"] != "succeeded":
                tally.stuck_or_failed_jobs += 1
                print(key, job["state"], job["error"], file=sys.stderr)  # noqa: T201
                continue
            tally.different_adapters += job["adapter"]["sha256"] != sha256
            found = losses_of(self._client, id)
            tally.lost_steps += sum(a != b for a, b in zip(found, losses, strict=False)) + abs(
                len(found) - len(losses)
            )
        known = {one["id"]: one for one in self._client.get("/datasets")["datasets"]}
        life.end(signal.SIGTERM)
        tally.lost_or_torn_uploads += self._torn_uploads(known)
        with closing(sqlite3.connect(self._data / "steerzo.sqlite")) as database:
            tally.damaged_databases += database.execute("PRAGMA integrity_check").fetchone()[0] != "ok"
        self._jobs.clear()
        self._uploads.clear()

    def _torn_uploads(self, known: dict[str, Any]) -> int:
        files = {path.stem: path for path in (self._data / "datasets").iterdir()}
        lost = sum(id not in known for id in self._uploads)
        without_row = sum(stem not in known for stem in files)
        torn = sum(
            id not in files or hashlib.sha256(files[id].read_bytes()).hexdigest() != sha256
            for id, sha256 in self._uploads.items()
        )
        return lost + without_row + torn


def _post(client: Client, body: dict[str, Any], key: str) -> dict[str, Any]:
    response = client.http.post("/jobs", json=body, headers={"Idempotency-Key": key})
    if response.is_error:
        raise SteerzoError(f"{response.status_code}: {response.text}")
    found: dict[str, Any] = response.json()
    return found
