"""How a profile becomes live parts. The only place that knows both sides."""

from dataclasses import dataclass
from functools import partial

import torch
from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.batches import Batch, batch_rows, collate
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.tokenization import Choices, Tokenized, tokenize
from steerzo_edge.errors import DatasetError
from steerzo_edge.evaluation import evaluate
from steerzo_edge.finetuning import Parts
from steerzo_edge.model.base import Base
from steerzo_edge.model.subset import Copies, Subset
from steerzo_edge.profile import Profile
from steerzo_edge.seeds import derive_seed
from steerzo_edge.zo.batched import BatchedOracle
from steerzo_edge.zo.noise import Noise
from steerzo_edge.zo.oracle import Oracle
from steerzo_edge.zo.sequential import SequentialOracle
from steerzo_edge.zo.strategy import Strategy

# What `probes_per_forward: auto` stays under: tokens of one forward, and bytes of perturbed copies.
STACKED_TOKENS = 65_536
STACKED_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Data:
    """Tokenized rows of a run.

    Args:
        train: To learn from.
        validation: To be judged by, or None.
    """

    train: Tokenized
    validation: Tokenized | None


def split(dataset: Dataset, profile: Profile, seed: int) -> tuple[Dataset, Dataset | None]:
    """Sets rows aside for validation where none were given.

    Args:
        dataset: All rows.
        profile: `evaluate.holdout` says which share, `evaluate.examples` how many at most.
        seed: Which rows.
    """
    count = min(int(len(dataset) * profile.evaluate.holdout), profile.evaluate.examples)
    if count == 0:
        return dataset, None
    generator = torch.Generator().manual_seed(derive_seed("holdout", seed))
    order = torch.randperm(len(dataset), generator=generator).tolist()
    return dataset.pick(sorted(order[count:])), dataset.pick(sorted(order[:count]))


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
        TaskError: If the task's options do not fit the labels.
    """
    max_tokens = min(profile.batch.max_tokens, context_length)
    labels = train.labels
    if validation is not None and validation.format != train.format:
        raise DatasetError(f"the validation rows are {validation.format}, the training rows {train.format}")
    if validation is not None and len(validation) > profile.evaluate.examples:
        generator = torch.Generator().manual_seed(derive_seed("validation", seed))
        order = torch.randperm(len(validation), generator=generator)[: profile.evaluate.examples]
        validation = validation.pick(sorted(order.tolist()))
    if validation is not None:
        labels = tuple(dict.fromkeys([*labels, *validation.labels]))
    return Data(
        tokenize(train, tokenizer, max_tokens, labels),
        None if validation is None else tokenize(validation, tokenizer, max_tokens, labels),
    )


def assemble(base: Base, profile: Profile, data: Data, seed: int) -> Parts:
    """Builds everything a run is made of.

    Args:
        base: The frozen model.
        profile: The settings.
        data: Tokenized rows.
        seed: Of the run.

    Raises:
        ProfileError: If the subset's targets do not fit the base.
    """
    subset = profile.subset.build(base, derive_seed("adapter", seed))
    noise = Noise(subset.parameters.numel(), base.device)
    strategy = profile.method.build()
    judge = None
    if data.validation is not None:
        serving = Copies(subset, 1)
        rows = data.validation
        judge = lambda: evaluate(base, rows, serving.hold())  # noqa: E731 - closes over the two above
    return Parts(
        subset=subset,
        noise=noise,
        strategy=strategy,
        oracle=_oracle(base, profile, data.train, subset, noise, strategy),
        rule=profile.rule.build(noise.size, base.device),
        schedule=profile.schedule.build(profile.rule.learning_rate, profile.steps),
        batches=partial(_batch, base, data.train, seed, profile.batch.examples),
        seed=seed,
        steps=profile.steps,
        evaluate=judge,
        evaluate_every=profile.evaluate.every,
        early_stop=profile.evaluate.early_stop,
    )


def _batch(base: Base, data: Tokenized, seed: int, size: int, step: int) -> Batch:
    rows = batch_rows(seed, step, len(data.rows), size)
    return collate(data, rows, base.tokenizer.pad_token_id, base.device)


def _oracle(
    base: Base, profile: Profile, data: Tokenized, subset: Subset, noise: Noise, strategy: Strategy
) -> Oracle:
    asked = profile.batch.probes_per_forward
    chunk = min(strategy.cost, _chunk(base, profile, data, subset) if asked == "auto" else asked)
    if chunk == 1:
        return SequentialOracle(base, subset, noise)
    return BatchedOracle(base, subset, noise, chunk=chunk)


def _chunk(base: Base, profile: Profile, data: Tokenized, subset: Subset) -> int:
    """As many probes as stay under both bounds, at least one."""
    longest = max(len(row.prompt if hasattr(row, "prompt") else row.tokens) for row in data.rows)
    sequences = profile.batch.examples
    if isinstance(data, Choices) and any(len(option) > 1 for option in data.options):
        sequences *= len(data.options)
    by_tokens = STACKED_TOKENS // (longest * sequences)
    by_bytes = STACKED_BYTES // (subset.parameters.numel() * base.compute_dtype.itemsize)
    return max(1, min(by_tokens, by_bytes))
