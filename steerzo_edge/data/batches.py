"""Batches: which rows a step sees, and their tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steerzo_edge.data.packing import Fork, Packed, pack, starts
from steerzo_edge.data.tokenization import Choices, Questions, Targets, Tokenized
from steerzo_edge.data.tokens import Tokens
from steerzo_edge.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class TargetBatch:
    """Sequences with target tokens.

    Args:
        packed: N rows of S tokens in all.
        places: (P,) index into S of the token before each target: the hidden state there predicts the target.
        targets: (P,) int64 token ids.
        weights: (P,) float32; 1 / (targets of its row * N), so that the weighted sum is the mean over
            rows of the mean over target tokens.
        indices: The index in the dataset of each row of the batch, in the order of the batch.
    """

    packed: Packed
    places: Tensor
    targets: Tensor
    weights: Tensor
    indices: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Number of tokens of all rows."""
        return self.packed.tokens


@dataclass(frozen=True, slots=True)
class ChoiceBatch:
    """Prompts whose options are all single tokens: one sequence and one row of option logits per example.

    Args:
        packed: B prompts.
        places: (B,) index into S of each prompt's last token.
        options: (C,) int64, one token per option.
        answers: (B,) int64 index of the right option.
        indices: The index in the dataset of each row of the batch, in the order of the batch.
    """

    packed: Packed
    places: Tensor
    options: Tensor
    answers: Tensor
    indices: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Number of tokens of all rows."""
        return self.packed.tokens


@dataclass(frozen=True, slots=True)
class PhraseBatch:
    """Prompts with options of several tokens, or with their own options: one stem, and a branch for each option.

    C is the largest number of options that a row has.

    Args:
        packed: B forked rows.
        places: (P,) index into S of the token before each option token; that of an option's first token is the
            prompt's last token.
        targets: (P,) int64 option tokens.
        shares: (P, B * C) float32; 1 / (length of the option) in the column of the token's option, so that the
            product of log-likelihoods with it is every option's mean log-likelihood.
        absent: (B, C) float32; 0 for the options that a row has, -inf for those it lacks; None if all rows have the
            same options.
        answers: (B,) int64 index of the right option that is learned.
        right: (B, C) bool, True for every option that counts as right.
        indices: The index in the dataset of each row of the batch, in the order of the batch.
    """

    packed: Packed
    places: Tensor
    targets: Tensor
    shares: Tensor
    absent: Tensor | None
    answers: Tensor
    right: Tensor
    indices: tuple[int, ...]

    @property
    def shared(self) -> bool:
        """Whether all rows have the same options."""
        return self.absent is None

    @property
    def tokens(self) -> int:
        """Number of tokens of all rows."""
        return self.packed.tokens


Batch = TargetBatch | ChoiceBatch | PhraseBatch


def batch_rows(seed: int, step: int, rows: int, size: int) -> list[int]:
    """The rows that a step sees; a pure function, so that a run can be resumed at any step.

    Args:
        seed: Of the run.
        step: From 0.
        rows: Rows in the dataset.
        size: Rows per batch. Every epoch is a new permutation, and a batch may span the end of one.
    """
    start = step * size
    epochs = range(start // rows, (start + size - 1) // rows + 1)
    stream = [row for epoch in epochs for row in _permutation(seed, epoch, rows)]
    first = start - epochs[0] * rows
    return stream[first : first + size]


def forks(data: Tokenized, indices: Sequence[int] | None = None) -> list[Fork]:
    """Rows in the form that goes through the model.

    Args:
        data: A tokenized dataset.
        indices: Which rows; None for all.
    """
    chosen = range(len(data.rows)) if indices is None else indices
    if isinstance(data, Targets):
        return [Fork(data.rows[index].tokens) for index in chosen]
    # No target follows the last token of an option, so that token is left out.
    if isinstance(data, Questions):
        rows = [data.rows[index] for index in chosen]
        return [Fork(row.prompt, tuple(choice[:-1] for choice in row.choices)) for row in rows]
    branches = () if _single(data) else tuple(option[:-1] for option in data.options)
    return [Fork(data.rows[index].prompt, branches) for index in chosen]


def collate(data: Tokenized, indices: Sequence[int], device: torch.device | str = "cpu") -> Batch:
    """The tensors of some rows, sorted by length.

    Args:
        data: A tokenized dataset.
        indices: Which rows, in any order: the loss is their mean.
        device: Where the model is.
    """
    pairs = zip(indices, forks(data, indices), strict=True)
    indices, rows = zip(*sorted(pairs, key=lambda pair: len(pair[1].tokens)), strict=True)
    packed = pack(rows, device)
    if isinstance(data, Targets):
        return _target_batch(data, indices, packed)
    if isinstance(data, Questions):
        own = [data.rows[index] for index in indices]
        choices, right = [row.choices for row in own], [row.answers for row in own]
        return _phrase_batch(choices, right, indices, packed, shared=False)
    if _single(data):
        return _choice_batch(data, indices, packed)
    answers = [(data.rows[index].answer,) for index in indices]
    return _phrase_batch([data.options] * len(indices), answers, indices, packed, shared=True)


def _target_batch(data: Targets, indices: tuple[int, ...], packed: Packed) -> TargetBatch:
    device = packed.input_ids.device
    chosen = [data.rows[index] for index in indices]
    found = [
        (start + place - 1, row.tokens[place], 1 / (sum(row.counted) * len(chosen)))
        for start, row in zip(starts(packed.rows), chosen, strict=True)
        for place, counted in enumerate(row.counted)
        if counted
    ]
    places, targets, weights = zip(*found, strict=True)
    return TargetBatch(
        packed,
        torch.tensor(places, device=device),
        torch.tensor(targets, device=device),
        torch.tensor(weights, device=device, dtype=torch.float32),
        indices,
    )


def _choice_batch(data: Choices, indices: tuple[int, ...], packed: Packed) -> ChoiceBatch:
    rows, device = packed.rows, packed.input_ids.device
    last = [start + len(row.stem) - 1 for start, row in zip(starts(rows), rows, strict=True)]
    return ChoiceBatch(
        packed,
        torch.tensor(last, device=device),
        torch.tensor([option[0] for option in data.options], device=device),
        torch.tensor([data.rows[index].answer for index in indices], device=device),
        indices,
    )


def _phrase_batch(
    options: Sequence[Sequence[Tokens]],
    answers: Sequence[tuple[int, ...]],
    indices: tuple[int, ...],
    packed: Packed,
    *,
    shared: bool,
) -> PhraseBatch:
    rows, device = packed.rows, packed.input_ids.device
    widest = max(map(len, options))
    places: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    for example, (start, row) in enumerate(zip(starts(rows), rows, strict=True)):
        last = start + len(row.stem) - 1
        branch = last + 1
        for index, option in enumerate(options[example]):
            places += [last, *range(branch, branch + len(option) - 1)]
            targets += option
            owners += [example * widest + index] * len(option)
            branch += len(option) - 1
    right = torch.tensor([[index in found for index in range(widest)] for found in answers], device=device)
    return PhraseBatch(
        packed,
        torch.tensor(places, device=device),
        torch.tensor(targets, device=device),
        _shares(owners, len(rows) * widest).to(device),
        None if shared else _absent([len(own) for own in options], widest, device),
        torch.tensor([found[0] for found in answers], device=device),
        right,
        indices,
    )


def _absent(counts: Sequence[int], widest: int, device: torch.device) -> Tensor:
    rows = [[0.0] * count + [-torch.inf] * (widest - count) for count in counts]
    return torch.tensor(rows, dtype=torch.float32, device=device)


def _single(data: Choices) -> bool:
    return all(len(option) == 1 for option in data.options)


def _shares(owners: Sequence[int], options: int) -> Tensor:
    member = torch.nn.functional.one_hot(torch.tensor(owners), options).float()
    return member / member.sum(0).clamp(min=1)  # an option that a row lacks has no tokens: avoid 0 / 0


def _permutation(seed: int, epoch: int, rows: int) -> list[int]:
    generator = torch.Generator().manual_seed(derive_seed("epoch", seed, epoch))
    return torch.randperm(rows, generator=generator).tolist()
