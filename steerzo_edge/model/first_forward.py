"""One short forward of a base that has just been loaded: does the engine compute what the model computes?

Two rows of different lengths, packed, as two versions that branch above the first layer. This finds families that
break the engine's assumptions (attention that cannot be chosen, states that leak from row to row, layers that are
called in another way, a head of its own) before a run trains on wrong numbers.
"""

import torch

from steerzo_edge.data.packing import Fork, pack
from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.base import Base
from steerzo_edge.model.layers import layer_count

_HINT = "docs/models.md lists the families that work."


def check_forward(base: Base) -> None:
    """Compares the engine's logits with the model's own.

    Args:
        base: Freshly loaded.

    Raises:
        BaseModelError: If they differ, or the engine's forward does not run at all.
    """
    ids = [token % base.model.config.vocab_size for token in range(4, 12)]
    name = f"{type(base.model).__name__} ({base.model.config.model_type})"
    try:
        with torch.inference_mode():
            own = base.model(input_ids=torch.tensor([ids], device=base.device)).logits[0].float()
            ours = _logits(base, ids, own.shape[-1])
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BaseModelError(f"the layers of {name} cannot be run by this engine: {first}", hint=_HINT) from error
    # The model's own head rounds to the compute type; a wrong scale or cap is off by far more.
    bound = 0.05 * float(own.abs().max())
    if not torch.allclose(ours, own.expand_as(ours), rtol=0.05, atol=bound):
        raise BaseModelError(
            f"{name} computes its attention or its logits in a way that this engine does not support", hint=_HINT
        )


def _logits(base: Base, ids: list[int], size: int) -> torch.Tensor:
    """(2, T, V) of both versions of the second row."""
    packed = pack([Fork(tuple(ids[:5])), Fork(tuple(ids))], base.device)
    branch_layer = min(1, layer_count(base.model.config) - 1)
    with base.bank.route({}, branch_layer):
        hidden = base.hidden(packed, copies=2)[:, 5 : 5 + len(ids)]
    logits = base.head.logits(hidden.flatten(0, 1), torch.arange(size, device=base.device))
    return logits.view(2, len(ids), size)
