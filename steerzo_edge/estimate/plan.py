"""Decides how a run uses memory: from the setting `memory` to the sizes that the run is built with.

    lean       at most what exact gradients with checkpointing would take on the same batch, and at most 1.10 times
               the process that only puts the batch through the model once
    fast       at most what is free when the run starts
    "2 GiB"    at most so many bytes for the whole process

With exact gradients `lean` runs every layer twice on the whole batch.

Plans are tried from the fastest to the leanest, and the first that stays within the bound is taken: smaller blocks
of the output head, smaller caches, fewer probes in one forward, then a batch in several parts. `lean` and a size
depend on the settings, the model and the rows alone, so a run that is resumed has the same plan. Explicit settings
of `batch` are never changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from steerzo_edge.errors import ProfileError
from steerzo_edge.estimate.anatomy import Anatomy
from steerzo_edge.estimate.backward import backward_in_process, backward_needs, exact_plans
from steerzo_edge.estimate.exact import exact_needs
from steerzo_edge.estimate.free import free_bytes
from steerzo_edge.estimate.memory_needs import MemoryNeeds
from steerzo_edge.estimate.work import Trained, Work, trained_by
from steerzo_edge.estimate.zeroth_order import (
    CACHED_NOISE,
    CACHED_PREFIX,
    LEAN_NOISE,
    Plan,
    exact_in_process,
    in_process,
    zeroth_order_needs,
)
from steerzo_edge.model.head import BLOCK_BYTES
from steerzo_edge.settings.memory import memory_bytes
from steerzo_edge.settings.profile import Profile

# What the process holds before a base is loaded: Python and libraries, or the context of CUDA.
RUNTIME_BYTES = 300 << 20
# `lean` plans for so many times the memory of a process that only runs inference, to stay below 1.10 of it.
INFERENCE = 1.07
# `fast` leaves the rest of the free memory to other processes, and to the estimate's own error.
FREE = 0.8
# More is not faster: tokens of one forward, and bytes of perturbed copies.
STACKED_TOKENS = 65_536
STACKED_BYTES = 512 << 20
# Bytes of noise and of frozen prefix that are kept in memory, from fast to lean.
LEAN_PREFIX = 16 << 20
CACHES = (
    (CACHED_NOISE, CACHED_PREFIX),
    (32 << 20, 64 << 20),
    (LEAN_NOISE, LEAN_PREFIX),
    (LEAN_NOISE, 0),
    (1 << 20, 0),
)
# Bytes of a block of the output head, likewise.
HEADS = (BLOCK_BYTES, 4 << 20, 1 << 20)


@dataclass(frozen=True, slots=True)
class _Run:
    """What the plans of a run are judged by."""

    profile: Profile
    body: Anatomy
    trained: Trained
    work: Work
    device: str

    @property
    def exact(self) -> bool:
        return self.profile.method.needs_gradients

    def needs(self, plan: Plan) -> MemoryNeeds:
        return run_needs(self.profile, self.body, self.trained, self.work, plan, device=self.device)

    def checkpointed(self) -> int:
        found = exact_needs(self.profile, self.body, self.trained, self.work, checkpointing=True)
        return (exact_in_process(found, self.body) if self.device == "cpu" else found).total

    def inference(self) -> int:
        """Bytes of the base and of one forward of the largest batch with one copy of the adapter."""
        plan = leanest(self.profile, self.work)
        found = dict(zeroth_order_needs(self.profile, self.body, self.trained, self.work, plan, device=self.device))
        found = dict(in_process(MemoryNeeds(found), self.body)) if self.device == "cpu" else found
        found |= {"noise": 0, "update rule": 0, "frozen prefix": 0}
        found["copies of it"] = self.profile.model.dtype.itemsize * self.trained.size
        return MemoryNeeds(found).total

    def bound(self, free: int | None) -> int:
        """Bytes that the setting `memory` allows, without what the process holds before a base is loaded."""
        size = memory_bytes(self.profile.memory)
        if size is not None:
            return size - RUNTIME_BYTES
        if self.profile.memory == "lean" and self.exact:
            return self.needs(replace(leanest(self.profile, self.work), prefix_bytes=LEAN_PREFIX)).total
        if self.profile.memory == "lean":
            return min(self.checkpointed(), round(INFERENCE * (RUNTIME_BYTES + self.inference())) - RUNTIME_BYTES)
        weights = self.body.weight_bytes(self.profile.model.quantization, self.profile.model.dtype.itemsize)
        return round(FREE * (free_bytes(torch.device(self.device), weights) if free is None else free))


def bound_and_least(
    profile: Profile, body: Anatomy, work: Work, *, device: str, free: int | None = None
) -> tuple[int, int]:
    """Bytes that a run may take by its setting `memory`, and bytes of its leanest plan.

    Args:
        profile: The settings.
        body: The model's sizes.
        work: Of the largest batch, and of all rows.
        device: "cpu" or "cuda".
        free: As in `planned`.
    """
    run = _Run(profile, body, trained_by(profile, body), work, device)
    return run.bound(free), min(run.needs(plan).total for plan in (leanest(profile, work), *_plans(run)))


def planned(profile: Profile, body: Anatomy, work: Work, *, device: str, free: int | None = None) -> Plan:
    """Finds the plan of a run.

    Args:
        profile: The settings.
        body: The model's sizes.
        work: Of the largest batch, and of all rows.
        device: "cpu" or "cuda".
        free: Bytes that `fast` may use, those of the loaded base included; None asks the system.

    Raises:
        ProfileError: If the run does not fit into the size that `memory` names.
    """
    run = _Run(profile, body, trained_by(profile, body), work, device)
    size, bound = memory_bytes(profile.memory), run.bound(free)
    plan = leanest(profile, work)
    for plan in _plans(run):
        if run.needs(plan).total <= bound:
            return plan
    if size is None:
        return plan
    least = run.needs(plan).total + RUNTIME_BYTES
    raise ProfileError(
        f"memory is {profile.memory!r}, but this run takes at least {-(-least >> 20):,} MiB, libraries included",
        hint="Raise memory, lower batch.max_tokens, or choose a smaller base or subset.",
    )


def run_needs(
    profile: Profile, body: Anatomy, trained: Trained, work: Work, plan: Plan, *, device: str
) -> MemoryNeeds:
    """Bytes of a run by part, with whichever method the profile has.

    Args:
        profile: The settings.
        body: The model's sizes.
        trained: The subset's sizes.
        work: The largest batch.
        plan: How it uses memory.
        device: "cpu" or "cuda"; on a CPU what a process holds besides the tensors is added.
    """
    if profile.method.needs_gradients:
        found = backward_needs(profile, body, trained, work, plan, device=device)
        return backward_in_process(found, body) if device == "cpu" else found
    found = zeroth_order_needs(profile, body, trained, work, plan, device=device)
    return in_process(found, body) if device == "cpu" else found


def leanest(profile: Profile, work: Work) -> Plan:
    """One probe in a forward, and nothing kept: the least memory with whole batches.

    Args:
        profile: The settings; explicit ones are not looked at.
        work: Of the largest batch.
    """
    return Plan(1, room_of(work), _typical(work), LEAN_NOISE, 0, HEADS[-1], frugal=True)


def room_of(work: Work) -> int:
    """Tokens that no batch has more of."""
    return work.longest * work.examples


def _typical(work: Work) -> int:
    return min(room_of(work), max(work.longest, round(work.mean * work.examples)))


def _plans(run: _Run) -> Iterator[Plan]:
    """From the fastest to the leanest."""
    work, fast = run.work, run.profile.memory == "fast"
    room = room_of(work)
    block = room if fast else _typical(work)
    heads = HEADS if work.places > 0 else HEADS[:1]
    if run.trained.exact_layer is not None:
        yield from exact_plans(
            run.body.layers - run.trained.exact_layer,
            work,
            room=room,
            block_tokens=block,
            probed=list(_probed(run, fast)),
            heads=heads,
            frugal=not fast,
        )
        return
    counts = _counts(run, keep_most=fast)
    for probes in counts:
        for noise, prefix in _caches(run, probes):
            for head in heads:
                yield Plan(probes, room, block, noise, prefix, head, frugal=not fast)
    least = _caches(run, counts[-1])[-1]
    parts = 2
    while parts <= work.examples and room // parts >= work.longest:
        part = max(work.longest, -(-work.tokens // parts))
        yield Plan(counts[-1], part, min(part, block), *least, HEADS[-1], frugal=True)
        parts *= 2


def _probed(run: _Run, fast: bool) -> Iterator[tuple[int, int, int]]:
    """Probes in a forward, bytes of noise and of prefix of a run with exact gradients, most first."""
    if run.trained.block == 0:
        yield from dict.fromkeys((1, 0, prefix) for _, prefix in _caches(run, 1))
        return
    for probes in _counts(run, keep_most=fast):
        yield from ((probes, noise, prefix) for noise, prefix in _caches(run, probes))


def _counts(run: _Run, *, keep_most: bool) -> list[int]:
    """Numbers of probes in a forward, most first; below the most, those that cut a step into equal forwards."""
    asked, cost = run.profile.batch.probes_per_forward, run.profile.method.probes
    if asked != "auto":
        return [min(cost, asked)]
    perturbed = run.trained.size if run.trained.exact_layer is None else run.trained.block
    copy = perturbed * run.profile.model.dtype.itemsize
    most = min(cost, max(1, min(STACKED_TOKENS // room_of(run.work), STACKED_BYTES // copy)))
    equal = {-(-cost // forwards) for forwards in range(1, cost + 1)}
    return sorted({count for count in equal if count <= most} | ({most} if keep_most else set()), reverse=True)


def _caches(run: _Run, probes: int) -> list[tuple[int, int]]:
    """Bytes of noise and of prefix, most first; an explicit `prefix_memory_mib` stays."""
    asked = run.profile.batch.prefix_memory_mib
    fixed = None if asked == "auto" else asked << 20
    one = run.profile.batch.probes_per_forward == 1  # the setting that saves memory
    caches = [
        (min(noise, LEAN_NOISE) if one else noise, prefix if fixed is None else fixed) for noise, prefix in CACHES
    ]
    return list(dict.fromkeys(caches))
