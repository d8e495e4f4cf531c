"""Where the time of the tests goes: `pytest -p tests.times --times FILE` writes a page; see `make test-times`.

Times are of the whole test, its fixtures included: a fixture that several tests share counts for the first of them.
"""

import os
import platform
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

SLOWEST = 20
PAGE = """# How long the tests take

Written by `make test-times`, {date}, on {machine}. {tests:,} tests ran in {wall}, by {workers}; {skipped:,} more
were skipped. Added up, the tests took {total}; {long} of that in the {many} marked `long`, which `make test` leaves
out. A fixture that tests share counts for the first test that uses it.

## The slowest {count} tests

| test | seconds |
| --- | ---: |
{slowest}

## The slowest {files} files

| file | tests | seconds |
| --- | ---: | ---: |
{by_file}
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--times`."""
    parser.addoption("--times", type=Path, help="write a page about the slowest tests to this file")


class Times:
    """Adds up the seconds of every test while they run.

    Args:
        path: Where the page is written.
        workers: Processes that run tests.
    """

    def __init__(self, path: Path, workers: int) -> None:
        self._path = path
        self._workers = workers
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._skipped: set[str] = set()
        self._long: set[str] = set()
        self._began = time.perf_counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Counts a setup, a call or a teardown."""
        self._seconds[report.nodeid] += report.duration
        if "long" in report.keywords:
            self._long.add(report.nodeid)
        if report.skipped:
            self._skipped.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Writes the page."""
        ran = {test: seconds for test, seconds in self._seconds.items() if test not in self._skipped}
        if ran:
            wall_s = time.perf_counter() - self._began
            self._path.write_text(page(ran, self._long, len(self._skipped), wall_s, self._workers))


def page(seconds: dict[str, float], long: set[str], skipped: int, wall_s: float, workers: int) -> str:
    """The page, in Markdown.

    Args:
        seconds: Of each test that ran, by its id.
        long: Ids of tests marked `long`.
        skipped: How many did not run.
        wall_s: Seconds from the first test to the last.
        workers: Processes that ran them.
    """
    files: defaultdict[str, list[float]] = defaultdict(list)
    for test, took in seconds.items():
        files[test.partition("::")[0]].append(took)
    slowest = sorted(seconds.items(), key=lambda pair: -pair[1])[:SLOWEST]
    by_file = sorted(files.items(), key=lambda pair: -sum(pair[1]))[:SLOWEST]
    return PAGE.format(
        date=time.strftime("%Y-%m-%d"),
        machine=machine(),
        tests=len(seconds),
        wall=minutes(wall_s),
        workers="one process" if workers < 2 else f"{workers} processes side by side",
        skipped=skipped,
        total=minutes(sum(seconds.values())),
        long=minutes(sum(took for test, took in seconds.items() if test in long)),
        many=sum(test in long for test in seconds),
        count=len(slowest),
        files=len(by_file),
        slowest="\n".join(f"| `{test.replace('|', '/')}` | {took:.1f} |" for test, took in slowest),
        by_file="\n".join(f"| `{file}` | {len(took):,} | {sum(took):.1f} |" for file, took in by_file),
    )


def machine() -> str:
    """The processor and how many cores of it there are, in plain words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{cores} {'core' if cores == 1 else 'cores'} of a processor of type {processor()}"


def processor() -> str:
    """Its name as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names: Iterator[str] = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def minutes(seconds: float) -> str:
    """As "3 min 20 s"."""
    whole, rest = divmod(round(seconds), 60)
    return f"{whole} min {rest} s" if whole else f"{rest} s"


def pytest_configure(config: pytest.Config) -> None:
    """Counts in the process that receives every test's report: not in xdist's workers."""
    path = config.getoption("--times")
    if path is not None and not hasattr(config, "workerinput"):
        workers = len(config.getoption("tx", default=None) or ["one"])
        config.pluginmanager.register(Times(path, workers), "times")
