"""Probes every way to run a job, one process after the other, within a number of seconds.

A method learns the same with each setting of `memory`; only its seconds and bytes differ. So each method learns
once, with the faster setting that fits, and gets most of the time; with its other setting a few steps are timed.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from statistics import median
from typing import Any

from steerzo_edge.curve.model import Curve, CurvePoint, Point, Reach, lowest, reach
from steerzo_edge.curve.process import Job, run
from steerzo_edge.estimate.ways import Way
from steerzo_edge.model.packed.cache import PackedCache
from steerzo_edge.run_data import Data
from steerzo_edge.settings.profile import Profile, resolve, searches
from steerzo_edge.training.hybrid import HybridConfig

# Shares of the time that is left: one process that learns gets as much as so many that time steps.
LEARNING = 3
# How long a process may go on after its time, in shares of it: on a slow machine the first steps take that long.
GRACE = 1.0
LEAST_GRACE_S = 20.0
# Rows that are evaluated where steps are timed only: the evaluation is for the peak of memory.
FEW_ROWS = 16
# For steps that are timed only, where the settings leave them to a search: they change no second of a step.
RADIUS, RATE = 0.01, 1e-6
NOT_ENDED = "no step was finished in its time; give the probe more seconds"


@dataclass(slots=True)
class Findings:
    """What one process found.

    Args:
        points: Evaluations.
        steps: Seconds of each step but the first.
        searched: Seconds of the search for settings; None if there was none, or it was not finished.
        peak: Bytes.
        failure: Why it ended early.
    """

    points: list[Point] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    searched: float | None = None
    peak: int | None = None
    failure: str | None = None

    def add(self, word: str, value: Any) -> None:
        """Adds what a process sent; see `process.run`."""
        match word:
            case "point":
                self.points.append(Point(*value))
            case "step":
                self.steps.append(value)
            case "searched":
                self.searched = value
            case "peak":
                self.peak = value
            case "failed":
                self.failure = value

    @property
    def step_s(self) -> float | None:
        """The median of a step's seconds."""
        return median(self.steps) if self.steps else None


Probe = Callable[[Job], Findings]
Pair = tuple[Way, Profile]


def measured_curve(
    ways: Sequence[Pair],
    data: Data,
    *,
    name: str,
    machine: str,
    limit: int,
    loss: float | None,
    seconds: float,
    cache: PackedCache | None,
    say: Callable[[str], None] = lambda text: None,
    probe: Probe | None = None,
) -> Curve:
    """Probes the ways that fit, and places all of them.

    Args:
        ways: Each way with its settings; those of one method follow each other, the leaner one first.
        data: Tokenized rows, some of them to evaluate on.
        name: Of the base.
        machine: The device in words.
        limit: Bytes that the process may have.
        loss: To be reached; None takes the lowest that a probe reaches.
        seconds: For everything.
        cache: Packed copies of bases.
        say: Is told what is being done.
        probe: Does a job; by default in a process of its own.
    """
    probe = probe or apart
    fitting = [pair for pair in ways if pair[0].fits]
    learners = {way.method: way for way, _ in fitting}  # the last of each method, which is the faster
    # The short ones first: what they leave over goes to those that learn.
    order = sorted(fitting, key=lambda pair: learners[pair[0].method] is pair[0])
    found: dict[tuple[str, str], Findings] = {}
    until = time.monotonic() + seconds
    total = left = sum(LEARNING if learners[way.method] is way else 1 for way, _ in order)
    for way, profile in order:
        learns = learners[way.method] is way
        weight = LEARNING if learns else 1
        now = time.monotonic()
        # Others may have taken longer than theirs: half of an equal share is left to each in any case.
        share = max((until - now) * weight / left, seconds * weight / total / 2)
        say(f"{way.method}, memory {way.memory}: {'learning' if learns else 'a few steps'}, {share:.0f} s")
        own = profile if learns else _without_search(profile)
        rows = data if learns else _few(data)
        found[way.method, way.memory] = probe(Job(own, rows, cache, learns, now + share))
        left -= weight
    points = {method: tuple(found[method, way.memory].points) for method, way in learners.items()}
    target = lowest(list(points.values())) if loss is None else loss
    placed = tuple(_placed(way, profile, found, learners, points, target) for way, profile in ways)
    return Curve(name, machine, target, loss is not None, limit, placed)


def _few(data: Data) -> Data:
    rows: Any = data.validation  # whatever their kind, they have `rows`
    return data if rows is None else replace(data, validation=replace(rows, rows=rows.rows[:FEW_ROWS]))


def _without_search(profile: Profile) -> Profile:
    if not searches(profile):
        return profile
    if isinstance(profile.method, HybridConfig):
        given = {"method.estimator.epsilon": RADIUS, "method.learning_rate": RATE}
    else:
        given = {"method.epsilon": RADIUS, "rule.learning_rate": RATE}
    return resolve(profile.model_dump(mode="json"), given)


def _placed(
    way: Way,
    profile: Profile,
    found: dict[tuple[str, str], Findings],
    learners: dict[str, Way],
    points: dict[str, tuple[Point, ...]],
    target: float | None,
) -> CurvePoint:
    own = found.get((way.method, way.memory), Findings())
    learned = points.get(way.method, ())
    reached = Reach(None, "unknown") if target is None else reach(learned, target)
    search: float | None = 0.0
    failure = own.failure
    if way.fits and searches(profile):
        learner = found[way.method, learners[way.method].memory]
        search = learner.searched
        if search is not None and learner.step_s and own.step_s and own is not learner:
            search *= own.step_s / learner.step_s  # not made again: it takes the same forwards
    if way.fits and failure is None and own.step_s is None:
        failure = NOT_ENDED
    return CurvePoint(
        method=way.method,
        exact_layers=way.exact_layers,
        memory=way.memory,
        kept=way.kept,
        estimated=way.bytes,
        fits=way.fits,
        peak=own.peak,
        step_s=own.step_s,
        timed=len(own.steps),
        search_s=search,
        reach=reached,
        learned=learned,
        failure=failure,
    )


def apart(job: Job) -> Findings:
    """Does a job in a process of its own, which is ended some time after its time is over.

    Args:
        job: What to do.
    """
    began = time.monotonic()
    last = job.until + max(LEAST_GRACE_S, GRACE * (job.until - began))
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(job, theirs), daemon=True)
    process.start()
    theirs.close()
    found, late = Findings(), False
    try:
        while True:
            if not ours.poll(max(0.0, last - time.monotonic())):
                late = True
                break
            found.add(*ours.recv())
    except EOFError:
        process.join(LEAST_GRACE_S)
    finally:
        process.kill()
        process.join()
        ours.close()
    if late and found.failure is None and not found.steps:
        found.failure = NOT_ENDED
    elif not late and process.exitcode and found.failure is None:
        found.failure = "the system ended it: memory ran out" if process.exitcode == -9 else "it failed"
    return found
