"""One short forward of a base that has just been loaded: does the engine compute what the model computes?

Two rows of different lengths, packed, as two versions that branch above the first layer. This finds families that
break the engine's assumptions (attention that cannot be chosen, states that leak from row to row, layers that are
called in another way, a head of its own) before a run trains on wrong numbers.

Both forwards compute in float32, with the weights as they are stored. Rounding to 16 bits would hide the answer:
with tokens that SmolLM2 was never trained on it moves logits by more than their own size.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from steerzo_edge.data.packing import Fork, Packed, pack
from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.base import Base
from steerzo_edge.model.float32 import Float32
from steerzo_edge.model.layers import layer_count
from steerzo_edge.model.libraries import without_compiler

_HINT = "docs/models.md lists the families that work."
_SENTENCE = "The old man walked down to the sea, and the boats were coming home. It was late, he said."
_MOST_TOKENS = 24
_SHORT = 5
_VOCABULARY_BLOCK = 8192
# Of the largest logit. Measured: in the families that work, in three storages, and with SmolLM2 in four the two
# forwards differ by at most 2e-6 of it; in families that compute something else by 6e-2 and more.
_BOUND = 1e-3


def check_forward(base: Base) -> None:
    """Compares the engine's logits with the model's own.

    Args:
        base: Freshly loaded.

    Raises:
        BaseModelError: If they differ or are not finite, or the engine's forward does not run at all.
    """
    tokens = _tokens(base)
    packed = pack([Fork(tokens[:_SHORT]), Fork(tokens)], base.device)
    name = f"{type(base.model).__name__} ({base.model.config.model_type})"
    try:
        with without_compiler(), torch.inference_mode(), base.bank.expanded(), Float32():
            own = base.model(input_ids=torch.tensor([tokens], device=base.device), use_cache=False).logits[0]
            off = distance(_logits(base, packed, own.shape[-1]), own)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BaseModelError(f"the layers of {name} cannot be run by this engine: {first}", hint=_HINT) from error
    if not torch.isfinite(own).all():
        raise BaseModelError(
            f"base model {base.name!r} computes numbers that are not finite from an ordinary sentence",
            hint="Its weights are damaged; fetch the files again, or use another release.",
        )
    if off > _BOUND:
        raise BaseModelError(
            f"{name} computes its attention or its logits in a way that this engine does not support", hint=_HINT
        )


def distance(ours: Iterable[Tensor], own: Tensor) -> float:
    """The largest difference between logits, as a part of the largest logit; NaN counts as infinitely far.

    Args:
        ours: (2, T, part of V), consecutive parts of the vocabulary.
        own: (T, V).
    """
    start, largest, found = 0, 1e-30, 0.0
    for part in ours:
        beside = own[:, start : start + part.shape[-1]]
        start += part.shape[-1]
        largest = max(largest, float(beside.abs().max()))
        off = float((part - beside).abs().max())
        found = max(found, off) if off == off else torch.inf
    return found / largest


def _tokens(base: Base) -> tuple[int, ...]:
    """A sentence, as the base's own tokenizer reads it; at least as many tokens as the engine's rows need."""
    found: list[int] = base.tokenizer.encode(_SENTENCE)
    most = min(_MOST_TOKENS, base.context_length)
    return tuple((found * _MOST_TOKENS)[:most]) if len(found) <= _SHORT else tuple(found[:most])


def _logits(base: Base, packed: Packed, size: int) -> Iterator[Tensor]:
    """(2, T, part of V) of both versions of the second row, part by part: all of them together may take 50 MiB."""
    with base.bank.route({}, min(1, layer_count(base.model.config) - 1)):
        hidden = base.hidden(packed, copies=2)[:, len(packed.rows[0].tokens) :]
    for block in torch.arange(size, device=base.device).split(_VOCABULARY_BLOCK):
        yield base.head.logits(hidden.flatten(0, 1), block).view(2, -1, len(block))
