"""Builds the parts of a run from a profile: the only module that knows settings and built objects."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from steerzo_edge.data.batches import Batch, batch_rows, collate, forks
from steerzo_edge.data.packing import Packed, pack
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.errors import ProfileError
from steerzo_edge.estimate.anatomy import anatomy
from steerzo_edge.estimate.plan import leanest, planned
from steerzo_edge.estimate.work import work_of
from steerzo_edge.estimate.zeroth_order import Plan
from steerzo_edge.model.base import Base
from steerzo_edge.model.layers import layer_index
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.subset import Copies, Subset
from steerzo_edge.objectives.evaluation import Evaluation, evaluate
from steerzo_edge.objectives.objective import Objective
from steerzo_edge.run_data import Data
from steerzo_edge.seeds import derive_seed
from steerzo_edge.settings.profile import Profile
from steerzo_edge.training.batch_stream import BatchStream
from steerzo_edge.training.exact import ADAM_RATE
from steerzo_edge.training.exact_steps import ExactSteps
from steerzo_edge.training.gradients import ExactGradients
from steerzo_edge.training.linearized import Linearized
from steerzo_edge.training.parts import Below, Parts
from steerzo_edge.training.rates import peak_rate
from steerzo_edge.zo.blocks import Blocks, cut
from steerzo_edge.zo.local import LocalOracle
from steerzo_edge.zo.oracle import Oracle
from steerzo_edge.zo.probe_forward import ProbeForward
from steerzo_edge.zo.rule import Rule
from steerzo_edge.zo.rules import SGD

log = logging.getLogger(__name__)


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
        ProfileError: If the subset's targets do not fit the base, or the run not into the memory it may take.
    """
    _check(profile)
    plan = plan_of(base, profile, data)
    base.frugal, base.head.block_bytes = plan.frugal, plan.head_bytes
    room = _room(data.train, profile)
    rows = _calibration(base, data.train, room, derive_seed("calibration", seed))
    subset = profile.subset.build(base, derive_seed("adapter", seed), rows, frozen)
    first = _first_exact_layer(profile, subset)
    blocks = _blocks(base, profile, subset, seed, plan, first)
    prefix = prefix or _prefix(base, profile, data, subset, plan, scratch)
    batches = BatchStream(partial(_batch, base, data.train, seed, profile.batch.examples))
    moves = _moves(base, profile, data, subset, blocks, batches, prefix, plan, first)
    return Parts(
        subset=subset,
        blocks=blocks,
        strategy=profile.method.build,
        epsilon=None if profile.method.epsilon == "auto" else profile.method.epsilon,
        oracle=_oracle(base, profile, data, subset, moves.objective, blocks, batches, prefix, plan),
        rule=moves.rule,
        learning_rate=moves.rate,
        rate_factor=moves.rate_factor,
        schedule=profile.schedule.build(profile.steps),
        batches=batches,
        seed=seed,
        steps=profile.steps,
        evaluate=_evaluation(base, profile, data, subset, prefix, plan),
        evaluate_every=profile.evaluate.every,
        early_stop=profile.evaluate.early_stop,
        prefix=prefix,
        watcher=profile.watch.build(by_score=profile.objective.by_score),
        exact=moves.exact,
        below=moves.below,
    )


def _check(profile: Profile) -> None:
    if getattr(profile.method, "cone", None) is not None and profile.subset.block_layers is not None:
        raise ProfileError("method.cone needs the directions of the step before, which perturbed another block")


def plan_of(base: Base, profile: Profile, data: Data) -> Plan:
    """How a run on a base uses memory.

    Raises:
        ProfileError: As `planned`.
    """
    rows = [data.train] if data.validation is None else [data.train, data.validation]
    work = work_of(profile, base.context_length, *rows)
    try:
        body = anatomy(base.model.config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        log.warning("the sizes of %s cannot be read, so memory is not planned: %s", base.name, error)
        asked = profile.batch.probes_per_forward
        most = max(1, profile.method.probes)
        return replace(leanest(profile, work), probes=1 if asked == "auto" else min(asked, most))
    return planned(profile, body, work, device=base.device.type)


def _first_exact_layer(profile: Profile, subset: Subset) -> int | None:
    """The lowest decoder layer with exact gradients, or None."""
    trained = sorted({layer_index(slot.layer) for slot in subset.slots})
    count = profile.method.exact_layers_of(len(trained))
    return trained[-count] if count else None


def _blocks(base: Base, profile: Profile, subset: Subset, seed: int, plan: Plan, first: int | None) -> Blocks:
    probed = first is not None and any(layer_index(slot.layer) < first for slot in subset.slots)
    return cut(
        subset.slots,
        base.device,
        layers=profile.subset.block_layers,
        cache_bytes=plan.noise_bytes,
        order=profile.subset.block_order,
        seed=derive_seed("blocks", seed),
        distribution=profile.method.noise,
        below=first if probed else None,
    )


def _batch(base: Base, data: Tokenized, seed: int, examples: int, step: int) -> Batch:
    return collate(data, batch_rows(seed, step, len(data.rows), examples), base.device)


def _parts(base: Base, data: Tokenized, most: int, batch: Batch) -> list[Batch]:
    """The batch in parts of at most `most` tokens, unless a row has more; its rows are sorted by length."""
    if batch.tokens <= most:
        return [batch]
    parts: list[list[int]] = [[]]
    filled = 0
    for index, row in zip(batch.indices, batch.packed.rows, strict=True):
        if parts[-1] and filled + len(row.tokens) > most:
            parts.append([])
            filled = 0
        parts[-1].append(index)
        filled += len(row.tokens)
    return [collate(data, part, base.device) for part in parts]


def _evaluation(
    base: Base, profile: Profile, data: Data, subset: Subset, prefix: PrefixStore | None, plan: Plan
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
        tokens=plan.block_tokens,
        option_mass=profile.objective.any_option_weight,
        generate=profile.evaluate.generate,
        scorers=profile.objective.scorers(),
    )
    return lambda: measure(serving.hold())


def _prefix(
    base: Base, profile: Profile, data: Data, subset: Subset, plan: Plan, scratch: Path | None
) -> PrefixStore | None:
    first = base.bank.lowest({slot.layer for slot in subset.slots})
    if first == 0:
        return None
    rows = forks(data.train) + ([] if data.validation is None else forks(data.validation))
    return PrefixStore(
        base,
        rows,
        first,
        block_tokens=plan.block_tokens,
        memory_bytes=plan.prefix_bytes,
        disk_bytes=profile.batch.prefix_disk_mib << 20,
        directory=None if scratch is None else scratch / "prefix",
    )


def _oracle(
    base: Base,
    profile: Profile,
    data: Data,
    subset: Subset,
    objective: Objective,
    blocks: Blocks,
    batches: BatchStream,
    prefix: PrefixStore | None,
    plan: Plan,
) -> Oracle:
    if profile.objective.generates:
        prefix = None  # generation begins at the embedding
    forward = ProbeForward(
        base,
        subset,
        blocks,
        batches,
        prefix,
        count=plan.probes,
        objective=objective,
        parts=partial(_parts, base, data.train, plan.part_tokens),
    )
    return LocalOracle(forward)


@dataclass(frozen=True, slots=True)
class _Moves:
    """What the method of a run decides: what moves the parameters, and what probes measure; see `Parts`."""

    rule: Rule
    rate: float | None
    rate_factor: float
    objective: Objective
    exact: ExactSteps | None = None
    below: Below | None = None


def _moves(
    base: Base,
    profile: Profile,
    data: Data,
    subset: Subset,
    blocks: Blocks,
    batches: BatchStream,
    prefix: PrefixStore | None,
    plan: Plan,
    first: int | None,
) -> _Moves:
    objective = profile.objective.build(data.train)
    rate, factor = peak_rate(profile.rule.learning_rate)
    if first is None:
        return _Moves(profile.rule.build(blocks.noise.size, base.device), rate, factor, objective)
    cut_up = partial(_parts, base, data.train, plan.part_tokens)
    gradients = ExactGradients(
        base, subset, batches, prefix,
        objective=objective, parts=cut_up, kept_layers=plan.kept_layers, first_layer=first,
    )  # fmt: skip
    start, stop = gradients.span.start, gradients.span.stop
    rule = profile.rule.build(stop - start, base.device)
    segments = [slice(s.start - start, s.stop - start) for s in blocks.noise.segments if s.start >= start]
    max_norm = getattr(profile.method, "max_norm", None)
    exact = ExactSteps(gradients, subset.parameters[gradients.span], rule, batches, segments, max_norm)
    rate = factor * ADAM_RATE if rate is None else rate
    if start == 0:
        return _Moves(rule, rate, factor, objective, exact)
    loss = Linearized(objective)
    below = Below(loss, SGD(), rate)
    return _Moves(rule, *peak_rate(profile.method.probe_rate(profile.rule.learning_rate)), loss, exact, below)


def _room(data: Tokenized, profile: Profile) -> int:
    """Tokens that no batch has more of."""
    return max(len(row.tokens) for row in forks(data)) * profile.batch.examples


def _calibration(base: Base, data: Tokenized, room: int, seed: int) -> Packed:
    """Rows in random order, as many as fit into the tokens of the largest batch; at least one."""
    rows = forks(data)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    filled = accumulate(len(rows[index].tokens) for index in order)
    chosen = [rows[index] for index, tokens in zip(order, filled, strict=True) if tokens <= room]
    return pack(sorted(chosen, key=lambda row: len(row.tokens)), base.device)
