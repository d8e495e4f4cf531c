"""Builds the parts of a run from a profile: the only module that knows settings and built objects."""

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from steerzo_edge.data.batches import Batch, batch_rows, collate, forks
from steerzo_edge.data.packing import Packed, pack
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.errors import ProfileError
from steerzo_edge.model.base import Base
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.subset import Copies, Subset
from steerzo_edge.objectives.evaluation import Evaluation, evaluate
from steerzo_edge.run_data import Data
from steerzo_edge.seeds import derive_seed
from steerzo_edge.settings.profile import Profile
from steerzo_edge.settings.sections import peak_rate
from steerzo_edge.training.batch_stream import BatchStream
from steerzo_edge.training.parts import Parts
from steerzo_edge.zo.blocks import Blocks, cut
from steerzo_edge.zo.local import LocalOracle
from steerzo_edge.zo.noise import CACHE_BYTES
from steerzo_edge.zo.oracle import Oracle
from steerzo_edge.zo.probe_forward import ProbeForward

# `probes_per_forward: auto` stays below these: tokens of one forward, and bytes of perturbed copies.
STACKED_TOKENS = 65_536
STACKED_BYTES = 512 << 20
# Noise kept within a step where one probe at a time was asked for, which is the setting that saves memory.
LEAN_NOISE_BYTES = 8 << 20


def assemble(
    base: Base,
    profile: Profile,
    data: Data,
    seed: int,
    scratch: Path | None = None,
    frozen: Tensor | None = None,
    *,
    prefix: PrefixStore | None = None,
) -> Parts:
    """Builds everything a run is made of.

    Args:
        base: The frozen model.
        profile: The settings.
        data: Tokenized rows.
        seed: Of the run.
        scratch: A directory for files that can be computed again.
        frozen: The subset's frozen part, if it was stored when the run was started.
        prefix: Of another run on the same rows and layers, to save computing it again.

    Raises:
        ProfileError: If the subset's targets do not fit the base, or a setting does not fit the device.
    """
    _check(profile)
    room = _room(data.train, profile)
    rows = _calibration(base, data.train, room, derive_seed("calibration", seed))
    subset = profile.subset.build(base, derive_seed("adapter", seed), rows, frozen)
    blocks = _blocks(base, profile, subset, seed)
    prefix = prefix or _prefix(base, profile, data, subset, room, scratch)
    batches = BatchStream(partial(_batch, base, data.train, seed, profile.batch.examples))
    method = profile.method
    count = min(method.cost, _chunk(base, profile, room, subset))
    rate, rate_factor = peak_rate(profile.rule.learning_rate)
    return Parts(
        subset=subset,
        blocks=blocks,
        strategy=method.build,
        epsilon=None if method.epsilon == "auto" else method.epsilon,
        oracle=_oracle(base, profile, data, subset, blocks, batches, prefix, count),
        rule=profile.rule.build(blocks.noise.size, base.device),
        learning_rate=rate,
        rate_factor=rate_factor,
        schedule=profile.schedule.build(profile.steps),
        batches=batches,
        seed=seed,
        steps=profile.steps,
        evaluate=_evaluation(base, profile, data, subset, prefix, room),
        evaluate_every=profile.evaluate.every,
        early_stop=profile.evaluate.early_stop,
        prefix=prefix,
        watcher=profile.watch.build(by_score=profile.objective.by_score),
    )


def _check(profile: Profile) -> None:
    if getattr(profile.method, "cone", None) is not None and profile.subset.block_layers is not None:
        raise ProfileError("method.cone needs the directions of the step before, which perturbed another block")


def _blocks(base: Base, profile: Profile, subset: Subset, seed: int) -> Blocks:
    return cut(
        subset.slots,
        base.device,
        layers=profile.subset.block_layers,
        cache_bytes=LEAN_NOISE_BYTES if profile.batch.probes_per_forward == 1 else CACHE_BYTES,
        order=profile.subset.block_order,
        seed=derive_seed("blocks", seed),
        distribution=profile.method.noise,
    )


def _batch(base: Base, data: Tokenized, seed: int, examples: int, step: int) -> Batch:
    return collate(data, batch_rows(seed, step, len(data.rows), examples), base.device)


def _evaluation(
    base: Base, profile: Profile, data: Data, subset: Subset, prefix: PrefixStore | None, room: int
) -> Callable[[], Evaluation] | None:
    rows = data.validation
    if rows is None:
        return None
    serving = Copies(subset, 1)
    measure = partial(
        evaluate,
        base,
        rows,
        prefix=prefix,
        tokens=room,
        option_mass=profile.objective.any_option_weight,
        generate=profile.evaluate.generate,
        scorers=profile.objective.scorers(),
    )
    return lambda: measure(serving.hold())


def _prefix(
    base: Base, profile: Profile, data: Data, subset: Subset, room: int, scratch: Path | None
) -> PrefixStore | None:
    first = base.bank.lowest({slot.layer for slot in subset.slots})
    if first == 0:
        return None
    rows = forks(data.train) + ([] if data.validation is None else forks(data.validation))
    return PrefixStore(
        base,
        rows,
        first,
        block_tokens=room,
        memory_bytes=profile.batch.prefix_memory_mib << 20,
        disk_bytes=profile.batch.prefix_disk_mib << 20,
        directory=None if scratch is None else scratch / "prefix",
    )


def _oracle(
    base: Base,
    profile: Profile,
    data: Data,
    subset: Subset,
    blocks: Blocks,
    batches: BatchStream,
    prefix: PrefixStore | None,
    count: int,
) -> Oracle:
    objective = profile.objective.build(data.train)
    if profile.objective.generates:
        prefix = None  # generation begins at the embedding
    forward = ProbeForward(base, subset, blocks, batches, prefix, count=count, objective=objective)
    return LocalOracle(forward)


def _room(data: Tokenized, profile: Profile) -> int:
    """Tokens of the largest batch: evaluation and prefix use no more at once than a step does."""
    return max(len(row.tokens) for row in forks(data)) * profile.batch.examples


def _calibration(base: Base, data: Tokenized, room: int, seed: int) -> Packed:
    """Rows in random order, as many as fit into the tokens of the largest batch; at least one."""
    rows = forks(data)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    filled = accumulate(len(rows[index].tokens) for index in order)
    chosen = [rows[index] for index, tokens in zip(order, filled, strict=True) if tokens <= room]
    return pack(sorted(chosen, key=lambda row: len(row.tokens)), base.device)


def _chunk(base: Base, profile: Profile, room: int, subset: Subset) -> int:
    size = subset.parameters.numel() * base.compute_dtype.itemsize
    return probes_per_forward(profile.batch.probes_per_forward, room, size)


def probes_per_forward(asked: int | Literal["auto"], room: int, copy_bytes: int) -> int:
    """Most probes in one forward: the setting, or for "auto" as many as stay under both bounds, at least one.

    Args:
        asked: The setting.
        room: Tokens of the largest batch.
        copy_bytes: Of one perturbed version of the subset.
    """
    if asked != "auto":
        return asked
    return max(1, min(STACKED_TOKENS // room, STACKED_BYTES // copy_bytes))
