"""How a profile becomes live parts. The only place that knows both sides."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.batches import Batch, batch_rows, collate, forks
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.packing import Packed, pack
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.errors import DatasetError, ProfileError
from steerzo_edge.model.base import Base
from steerzo_edge.model.graphs import Graphs
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.subset import Copies, Subset
from steerzo_edge.objectives.evaluation import Evaluation, evaluate
from steerzo_edge.seeds import derive_seed
from steerzo_edge.settings.objectives import AnswersConfig, LikelihoodConfig, build_objective, prepared, scorers_of
from steerzo_edge.settings.profile import Profile
from steerzo_edge.settings.sections import BatchConfig, peak_rate
from steerzo_edge.training.parts import Parts
from steerzo_edge.zo.batched import BatchedOracle
from steerzo_edge.zo.blocks import cut
from steerzo_edge.zo.noise import CACHE_BYTES, Noise
from steerzo_edge.zo.oracle import Oracle, ProbeForward
from steerzo_edge.zo.sequential import SequentialOracle

# What `probes_per_forward: auto` stays under: tokens of one forward, and bytes of perturbed copies.
STACKED_TOKENS = 65_536
STACKED_BYTES = 512 << 20
# Noise kept within a step where one probe at a time was asked for, which is the setting that saves memory.
LEAN_NOISE_BYTES = 8 << 20
# Sizes of recorded forwards: wide enough that shapes come again, narrow enough that little is filled up.
GRAPH_MULTIPLE = 32


@dataclass(frozen=True, slots=True)
class Data:
    """Tokenized rows of a run.

    Args:
        train: To learn from.
        validation: To be judged by, or None.
    """

    train: Tokenized
    validation: Tokenized | None


def held_out(rows: int, profile: Profile) -> int:
    """How many of so many rows are set aside for validation where none were given, examples of one line apart."""
    return min(int(rows * profile.evaluate.holdout), profile.evaluate.examples)


def split(dataset: Dataset, profile: Profile, seed: int) -> tuple[Dataset, Dataset | None]:
    """Sets rows aside for validation where none were given; examples of one line of the file stay together.

    Args:
        dataset: All rows.
        profile: `evaluate.holdout` says which share, `evaluate.examples` how many at most.
        seed: Which rows.
    """
    count = held_out(len(dataset), profile)
    if count == 0:
        return dataset, None
    generator = torch.Generator().manual_seed(derive_seed("holdout", seed))
    lines: dict[int, list[int]] = {}
    for index, line in enumerate(dataset.lines):
        lines.setdefault(line, []).append(index)
    members = list(lines.values())
    held: set[int] = set()
    for chosen in torch.randperm(len(members), generator=generator).tolist():
        if len(held) >= count:
            break
        if len(held) + len(members[chosen]) <= len(dataset) // 2:  # most is there to learn from
            held.update(members[chosen])
    if not held:
        return dataset, None
    return dataset.pick([i for i in range(len(dataset)) if i not in held]), dataset.pick(sorted(held))


def tokenized(
    tokenizer: PreTrainedTokenizerBase,
    context_length: int,
    profile: Profile,
    train: Dataset,
    validation: Dataset | None,
    seed: int,
) -> Data:
    """Both sets of rows as token ids.

    Args:
        tokenizer: Of the base.
        context_length: Of the base; it caps `batch.max_tokens`.
        profile: The settings.
        train: Rows to learn from.
        validation: Rows to be judged by; more than `evaluate.examples` are thinned out.
        seed: Of the run.

    Raises:
        DatasetError: If a row's target does not fit, or the formats differ.
        ProfileError: If the objective does not fit the rows.
        TaskError: If the task's options do not fit the labels.
    """
    max_tokens = min(profile.batch.max_tokens, context_length)
    labels = train.labels
    if validation is not None and validation.kind != train.kind:
        raise DatasetError(f"the validation rows are {validation.format}, the training rows {train.format}")
    if validation is not None and len(validation) > profile.evaluate.examples:
        generator = torch.Generator().manual_seed(derive_seed("validation", seed))
        order = torch.randperm(len(validation), generator=generator)[: profile.evaluate.examples]
        validation = validation.pick(sorted(order.tolist()))
    if validation is not None:
        labels = tuple(dict.fromkeys([*labels, *validation.labels]))
    train_rows, judged = (
        None
        if rows is None
        else prepared(profile.objective, tokenize(rows, tokenizer, max_tokens, labels), context_length)
        for rows in (train, validation)
    )
    assert train_rows is not None
    return Data(train_rows, judged)


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
        scratch: A directory that may be filled with what can be computed again.
        frozen: The subset's frozen part, if an earlier life of the run kept it.
        prefix: Of an earlier run on the same rows and layers, to save computing it again.

    Raises:
        ProfileError: If the subset's targets do not fit the base, or a setting does not fit the device.
    """
    if profile.batch.cuda_graphs and (base.device.type != "cuda" or profile.subset.block_layers is not None):
        raise ProfileError("batch.cuda_graphs needs a CUDA device, and a subset without block_layers")
    if getattr(profile.method, "cone", None) is not None and profile.subset.block_layers is not None:
        raise ProfileError("method.cone remembers directions of the step before, which was in another block")
    if profile.batch.cuda_graphs and isinstance(profile.objective, AnswersConfig):
        raise ProfileError("batch.cuda_graphs records forwards of one shape; generated answers have many")
    room = _room(data.train, profile)
    rows = _calibration(base, data.train, room, derive_seed("calibration", seed))
    subset = profile.subset.build(base, derive_seed("adapter", seed), rows, frozen)
    blocks = cut(
        subset.slots,
        base.device,
        layers=profile.subset.block_layers,
        cache_bytes=LEAN_NOISE_BYTES if profile.batch.probes_per_forward == 1 else CACHE_BYTES,
        order=profile.subset.block_order,
        seed=derive_seed("blocks", seed),
        distribution=profile.method.noise,
    )
    method = profile.method
    rate, rate_factor = peak_rate(profile.rule.learning_rate)
    prefix = prefix or _prefix(base, profile, data, subset, room, scratch)
    return Parts(
        subset=subset,
        blocks=blocks,
        strategy=method.build,
        epsilon=None if method.epsilon == "auto" else method.epsilon,
        oracle=_oracle(
            base,
            profile,
            data,
            subset,
            blocks.noise,
            prefix,
            min(method.cost, _chunk(base, profile, room, subset)),
        ),
        rule=profile.rule.build(blocks.noise.size, base.device),
        learning_rate=rate,
        rate_factor=rate_factor,
        schedule=profile.schedule.build(profile.steps),
        batches=partial(_batch, base, data.train, seed, profile.batch),
        seed=seed,
        steps=profile.steps,
        evaluate=_judge(base, profile, data, subset, prefix, room),
        evaluate_every=profile.evaluate.every,
        early_stop=profile.evaluate.early_stop,
        prefix=prefix,
        watcher=profile.watch.build(by_score=not isinstance(profile.objective, LikelihoodConfig)),
    )


def _batch(base: Base, data: Tokenized, seed: int, settings: BatchConfig, step: int) -> Batch:
    rows = batch_rows(seed, step, len(data.rows), settings.examples)
    return collate(data, rows, base.device, GRAPH_MULTIPLE if settings.cuda_graphs else 1)


def _judge(
    base: Base, profile: Profile, data: Data, subset: Subset, prefix: PrefixStore | None, room: int
) -> Callable[[], Evaluation] | None:
    rows = data.validation
    if rows is None:
        return None
    serving = Copies(subset, 1)
    objective = profile.objective
    judge = partial(
        evaluate,
        base,
        rows,
        prefix=prefix,
        tokens=room,
        option_mass=objective.option_mass if isinstance(objective, LikelihoodConfig) else 0.0,
        generate=profile.evaluate.generate,
        judges=scorers_of(objective),
    )
    return lambda: judge(serving.hold())


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
    noise: Noise,
    prefix: PrefixStore | None,
    chunk: int,
) -> Oracle:
    objective = build_objective(profile.objective, data.train)
    if isinstance(profile.objective, AnswersConfig):
        prefix = None  # generation begins at the embedding
    graphs = Graphs() if profile.batch.cuda_graphs else None
    bench = ProbeForward(base, subset, noise, prefix, count=chunk, objective=objective, graphs=graphs)
    return SequentialOracle(bench) if chunk == 1 else BatchedOracle(bench)


def _room(data: Tokenized, profile: Profile) -> int:
    """Tokens of the largest batch: evaluation and prefix stay within the memory that a step needs anyway."""
    return max(len(row.tokens) for row in forks(data)) * profile.batch.examples


def _calibration(base: Base, data: Tokenized, room: int, seed: int) -> Packed:
    """Rows in random order, as many as stay within the tokens of the largest batch; at least one."""
    rows = forks(data)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    filled = accumulate(len(rows[index].tokens) for index in order)
    chosen = [rows[index] for index, tokens in zip(order, filled, strict=True) if tokens <= room]
    return pack(sorted(chosen, key=lambda row: len(row.tokens)), base.device)


def _chunk(base: Base, profile: Profile, room: int, subset: Subset) -> int:
    size = subset.parameters.numel() * base.compute_dtype.itemsize
    return probes_per_forward(profile.batch.probes_per_forward, room, size)


def probes_per_forward(asked: int | Literal["auto"], room: int, copy_bytes: int) -> int:
    """Most probes in one forward: what was asked, or as many as stay under both bounds, at least one.

    Args:
        asked: The setting.
        room: Tokens of the largest batch.
        copy_bytes: Of one perturbed version of the subset.
    """
    if asked != "auto":
        return asked
    return max(1, min(STACKED_TOKENS // room, STACKED_BYTES // copy_bytes))
