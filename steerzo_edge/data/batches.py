"""Batches: which rows a step sees, and the tensors it is given.

Rows are padded on the right. A causal model never looks ahead, so padding needs no mask and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steerzo_edge.data.tokenization import Choices, Targets, Tokenized
from steerzo_edge.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class TargetBatch:
    """Sequences with target tokens.

    Args:
        input_ids: (N, T) int64, padded on the right.
        rows: (P,) row of each target's predecessor.
        columns: (P,) its position: the hidden state there predicts the target.
        targets: (P,) int64 token ids.
        weights: (P,) float32; 1 / (targets of its row * N), so that the weighted sum is the mean over
            rows of the mean over target tokens.
        tokens: Real tokens in the batch.
    """

    input_ids: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor
    weights: Tensor
    tokens: int


@dataclass(frozen=True, slots=True)
class ChoiceBatch:
    """Prompts whose options are all single tokens: one sequence an example.

    Args:
        input_ids: (B, T) int64 prompts, padded on the right.
        columns: (B,) position of each prompt's last token.
        options: (C,) int64, one token an option.
        answers: (B,) int64 index of the right option.
        tokens: Real tokens in the batch.
    """

    input_ids: Tensor
    columns: Tensor
    options: Tensor
    answers: Tensor
    tokens: int


@dataclass(frozen=True, slots=True)
class PhraseBatch:
    """Prompts with options of several tokens: one sequence for each pair of example and option.

    Args:
        sequences: The B * C sequences, options innermost; their target tokens are the options'.
        answers: (B,) int64 index of the right option.
        options: C.
    """

    sequences: TargetBatch
    answers: Tensor
    options: int

    @property
    def tokens(self) -> int:
        """Real tokens in the batch."""
        return self.sequences.tokens


Batch = TargetBatch | ChoiceBatch | PhraseBatch


def batch_rows(seed: int, step: int, rows: int, size: int) -> list[int]:
    """The rows a step sees: a pure function, so that a run can go on anywhere.

    Args:
        seed: Of the run.
        step: From 0.
        rows: Rows in the dataset.
        size: Rows a batch; every epoch is a fresh permutation, and batches run on across its end.
    """
    start = step * size
    epochs = range(start // rows, (start + size - 1) // rows + 1)
    stream = [row for epoch in epochs for row in _permutation(seed, epoch, rows)]
    first = start - epochs[0] * rows
    return stream[first : first + size]


def collate(data: Tokenized, indices: Sequence[int], pad: int, device: torch.device | str = "cpu") -> Batch:
    """The tensors of some rows.

    Args:
        data: A tokenized dataset.
        indices: Which rows.
        pad: Token id to fill up with; any will do.
        device: Where the model is.
    """
    if isinstance(data, Targets):
        chosen = [data.rows[i] for i in indices]
        return _targets([row.tokens for row in chosen], [row.counted for row in chosen], pad, device)
    prompts = [data.rows[i].prompt for i in indices]
    answers = torch.tensor([data.rows[i].answer for i in indices], device=device)
    if _single_tokens(data):
        return ChoiceBatch(
            _padded(prompts, pad).to(device),
            torch.tensor([len(prompt) - 1 for prompt in prompts], device=device),
            torch.tensor([option[0] for option in data.options], device=device),
            answers,
            sum(map(len, prompts)),
        )
    pairs = [(prompt, option) for prompt in prompts for option in data.options]
    sequences = _targets(
        [prompt + option for prompt, option in pairs],
        [(False,) * len(prompt) + (True,) * len(option) for prompt, option in pairs],
        pad,
        device,
    )
    return PhraseBatch(sequences, answers, len(data.options))


def _single_tokens(data: Choices) -> bool:
    return all(len(option) == 1 for option in data.options)


def _targets(
    tokens: Sequence[Sequence[int]], counted: Sequence[Sequence[bool]], pad: int, device: torch.device | str
) -> TargetBatch:
    places = [
        (row, column - 1, tokens[row][column], 1 / (sum(flags) * len(tokens)))
        for row, flags in enumerate(counted)
        for column, flag in enumerate(flags)
        if flag
    ]
    rows, columns, targets, weights = zip(*places, strict=True)
    return TargetBatch(
        _padded(tokens, pad).to(device),
        torch.tensor(rows, device=device),
        torch.tensor(columns, device=device),
        torch.tensor(targets, device=device),
        torch.tensor(weights, device=device, dtype=torch.float32),
        sum(map(len, tokens)),
    )


def _padded(sequences: Sequence[Sequence[int]], pad: int) -> Tensor:
    width = max(map(len, sequences))
    return torch.tensor([list(sequence) + [pad] * (width - len(sequence)) for sequence in sequences])


def _permutation(seed: int, epoch: int, rows: int) -> list[int]:
    generator = torch.Generator().manual_seed(derive_seed("epoch", seed, epoch))
    return torch.randperm(rows, generator=generator).tolist()
