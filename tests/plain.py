"""The plain way to a loss: padded rows, one sequence for each option, full logits, one probe at a time.

It shares nothing with the engine's passes but the layers' weights: `transformers`' own attention, positions,
cache-less forward and output head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from steerzo_edge.data.tokenization import Choices, Question, Questions, Target, Targets, Tokenized
from steerzo_edge.model.base import Base
from steerzo_edge.model.subset import Copies
from steerzo_edge.training.parts import Parts
from steerzo_edge.zo.blocks import Block
from steerzo_edge.zo.strategy import Probe


def plain_losses(
    base: Base,
    parts: Parts,
    data: Tokenized,
    indices: Sequence[int],
    probes: Sequence[Probe],
    block: Block,
    option_mass: float = 0.0,
) -> list[float]:
    """What an oracle must answer."""
    return [_at(base, parts, data, indices, probe, block, option_mass) for probe in probes]


def _at(
    base: Base,
    parts: Parts,
    data: Tokenized,
    indices: Sequence[int],
    probe: Probe,
    block: Block,
    option_mass: float,
) -> float:
    noise = parts.blocks.noise
    copy = Copies(parts.subset, 1)
    patches = copy.hold()
    for index in block.segments:
        segment = noise.segments[index]
        moved = parts.subset.parameters[segment] + probe.radius * probe.direction.materialize(noise, index)
        copy.write(0, segment, moved)
    with torch.inference_mode(), base.bank.route(patches):
        return plain_loss(base, data, indices, option_mass)


def plain_loss(base: Base, data: Tokenized, indices: Sequence[int], option_mass: float = 0.0) -> float:
    """The loss of some rows under the bank's active route."""
    return float(plain_loss_tensor(base, data, indices, option_mass))


def plain_loss_tensor(base: Base, data: Tokenized, indices: Sequence[int], option_mass: float = 0.0) -> Tensor:
    """The same with the graph of autograd, where that is enabled."""
    if isinstance(data, Targets):
        rows = [data.rows[index] for index in indices]
        found = _log_likelihoods(base, [row.tokens for row in rows])
        means = [
            -torch.stack([chances[i] for i, counted in enumerate(row.counted) if counted]).mean()
            for row, chances in zip(rows, found, strict=True)
        ]
        return torch.stack(means).mean()
    if isinstance(data, Questions):
        return torch.stack([_of_question(base, data, index) for index in indices]).mean()
    assert isinstance(data, Choices)
    chosen = [data.rows[index] for index in indices]
    pairs = [(row.prompt, option) for row in chosen for option in data.options]
    found = _log_likelihoods(base, [prompt + option for prompt, option in pairs])
    options = [chances[len(prompt) :] for (prompt, _), chances in zip(pairs, found, strict=True)]
    scores = torch.stack([chances.mean() for chances in options]).view(len(chosen), -1)
    whole = torch.stack([chances.sum() for chances in options]).view(len(chosen), -1)
    right = torch.nn.functional.cross_entropy(scores, torch.tensor([row.answer for row in chosen]))
    return right - option_mass * whole.exp().sum(-1).log().mean()


def _of_question(base: Base, data: Questions, index: int) -> Tensor:
    row = data.rows[index]
    found = _log_likelihoods(base, [row.prompt + choice for choice in row.choices])
    scores = torch.stack([chances[len(row.prompt) :].mean() for chances in found])
    return -scores.log_softmax(0)[row.answers[0]]


def _log_likelihoods(base: Base, sequences: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """For each sequence, log p of each token given those before it; 0 for the first."""
    width = max(map(len, sequences))
    pad = base.tokenizer.pad_token_id
    ids = torch.tensor([list(s) + [pad] * (width - len(s)) for s in sequences])
    mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sequences])
    logits = base.model(input_ids=ids, attention_mask=mask).logits.float()
    chances = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:].unsqueeze(2)).squeeze(2)
    chances = torch.nn.functional.pad(chances, (1, 0))
    return [row[: len(s)] for row, s in zip(chances, sequences, strict=True)]


def plain_chosen(base: Base, data: Choices | Questions, index: int) -> int:
    """The likeliest option of one row, each scored in a sequence of its own."""
    row = data.rows[index]
    options = row.choices if isinstance(row, Question) else data.options  # type: ignore[union-attr]
    found = _log_likelihoods(base, [row.prompt + option for option in options])
    return int(torch.stack([chances[len(row.prompt) :].mean() for chances in found]).argmax())


def plain_answers(base: Base, rows: Sequence[Target], most: int) -> list[str]:
    """One prompt at a time, the whole sequence again for every token."""
    found = []
    for row in rows:
        tokens = list(row.tokens[: row.counted.index(True)])
        new: list[int] = []
        while len(new) < most:
            logits = base.model(input_ids=torch.tensor([tokens + new]), use_cache=False).logits[0, -1]
            if int(logits.argmax()) == base.tokenizer.eos_token_id:
                break
            new.append(int(logits.argmax()))
        text = base.tokenizer.decode(new, skip_special_tokens=True)
        found.append(text.partition("\n")[0].strip())
    return found
