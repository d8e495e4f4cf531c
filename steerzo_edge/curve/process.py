"""What a process of the probe does: it loads the base, takes some steps of one way, and sends what it sees.

It is a process of its own, so that its peak of memory is that of one way; if memory runs out, the system ends it
before others. Every finding is sent as soon as it is made, so that it stays known when the process is ended.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from steerzo_edge.assemble import assemble
from steerzo_edge.curve.peak import peak_bytes, reset_peak
from steerzo_edge.errors import SteerzoError
from steerzo_edge.model.allocator import give_back
from steerzo_edge.model.load import load_base
from steerzo_edge.model.packed.cache import PackedCache
from steerzo_edge.records import Record, StepRecord, TuneRecord
from steerzo_edge.run_data import Data
from steerzo_edge.settings.profile import Profile
from steerzo_edge.training.loop import finetune
from steerzo_edge.training.parts import Parts

# Evaluations after these shares of a probe's time; only the last where an evaluation takes long.
SHARES = (0.25, 0.5, 1.0)
LONG = 0.1
# Steps that are timed where no learning is looked at. The first step fills caches, and is not counted.
TIMED_STEPS = 6


@dataclass(frozen=True, slots=True)
class Job:
    """What a process is to do.

    Args:
        profile: The settings of one way.
        data: Tokenized rows.
        cache: Packed copies of bases.
        learns: Whether it looks at how far the steps come; otherwise it times a few steps only.
        until: When it should end, on the system's monotonic clock.
    """

    profile: Profile
    data: Data
    cache: PackedCache | None
    learns: bool
    until: float


def run(job: Job, out: Connection) -> None:
    """Does the job, and sends pairs of a word and its value.

    `loaded` seconds of the load; `searched` seconds of the search for settings; `step` seconds of a step; `point`
    steps and loss of an evaluation; `peak` bytes of the process so far; `failed` why it ended early.

    Args:
        job: What to do.
        out: Takes the pairs.
    """
    with suppress(OSError):  # exists on Linux only
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        _work(job, out)
    except SteerzoError as error:
        out.send(("failed", str(error)))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        out.send(("failed", "memory ran out"))


def _work(job: Job, out: Connection) -> None:
    began = time.monotonic()
    model = job.profile.model
    base = load_base(
        model.id,
        quantization=model.quantization,
        compute_dtype=model.dtype,
        revision=model.revision,
        cache=job.cache,
    )
    give_back()
    reset_peak(base.device)
    out.send(("loaded", time.monotonic() - began))
    with TemporaryDirectory() as scratch:
        parts = assemble(base, job.profile, job.data, seed=0, scratch=Path(scratch))
        try:
            for finding in _learned(parts, job.until) if job.learns else _timed(parts, job.until):
                out.send(finding)
                out.send(("peak", peak_bytes(base.device)))
        finally:
            if parts.prefix is not None:
                parts.prefix.close()


def _timed(parts: Parts, until: float) -> Iterator[tuple[str, Any]]:
    """A few steps, after the evaluation that every run begins with."""
    steps = 0
    for record, seconds in _records(parts):
        if isinstance(record, StepRecord):
            if steps:
                yield "step", seconds
            steps += 1
            if steps > TIMED_STEPS or (steps > 1 and time.monotonic() + seconds > until):
                return


def _learned(parts: Parts, until: float) -> Iterator[tuple[str, Any]]:
    """Steps until the time is over, and evaluations in between."""
    records = _records(parts)
    first, evaluation_s = next(records)
    yield "point", (0, first.as_dict()["loss"])
    shares: tuple[float, ...] = SHARES if evaluation_s < LONG * (until - time.monotonic()) else SHARES[-1:]
    began, evaluating = time.monotonic(), 0.0
    room = max(0.0, until - began - evaluation_s * len(shares))
    steps, taken = 0, [0.0]
    for record, seconds in records:
        if isinstance(record, TuneRecord):
            yield "searched", seconds
        if not isinstance(record, StepRecord):
            continue
        taken.append(seconds)
        steps += 1
        spent = time.monotonic() - began - evaluating
        ended = steps == parts.steps or spent + median(taken) > room
        if steps > 1 or ended:  # the first one fills caches; it is better than none
            yield "step", seconds
        if ended or (len(shares) > 1 and spent >= shares[0] * room):
            now = time.monotonic()
            yield "point", (steps, _loss(parts))
            evaluating += time.monotonic() - now
            shares = tuple(share for share in shares if share * room > spent) or SHARES[-1:]
        if ended:
            return


def _records(parts: Parts) -> Iterator[tuple[Record, float]]:
    """The records of a run, each with the seconds that it took."""
    records = finetune(parts)
    while True:
        began = time.monotonic()
        record = next(records, None)
        if record is None:
            return
        yield record, time.monotonic() - began


def _loss(parts: Parts) -> float:
    assert parts.evaluate is not None
    return parts.evaluate().loss
