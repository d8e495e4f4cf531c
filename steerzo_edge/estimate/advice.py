"""Says in a sentence whether back-propagation would be the better choice.

Exact gradients usually need 10 to 100 times fewer steps than zeroth-order estimates (arXiv:2510.03425). If they fit
into memory and the objective has a gradient, they should be used.
"""

from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.estimate.anatomy import anatomy
from steerzo_edge.estimate.free import free_bytes
from steerzo_edge.estimate.memory import MemoryEstimate, estimate
from steerzo_edge.estimate.work import work_of
from steerzo_edge.model.base import Base
from steerzo_edge.settings.profile import Profile

GIB = 1 << 30
# An estimate may be off by a quarter, so back-propagation is said to fit only with this share of the free memory.
SAFE = 0.8
LEAN = "batch.probes_per_forward 1 and batch.prefix_memory_mib 0"
SMALLER = "lower batch.examples or batch.max_tokens, or choose a smaller base"
SWITCH = "To use them, set method.kind to exact."
FEWER = "exact gradients usually need 10-100 times fewer steps (arXiv:2510.03425)"


def advice(found: MemoryEstimate, free: int, *, differentiable: bool, exact: bool = False) -> str:
    """Says what the memory needs mean for the choice between zeroth-order and back-propagation.

    Args:
        found: The memory needs of both.
        free: Bytes that may be used.
        differentiable: Whether the objective has a gradient.
        exact: Whether the run computes exact gradients.
    """
    if exact:
        return _for_exact(found, free)
    room = f"{_gib(free)} are free"
    if not differentiable:
        return f"The objective has no gradient, so back-propagation is not possible; {room}. {_own(found, free)}"
    needs = f"Back-propagation would need about {_gib(found.exact.total)} and {room}"
    checkpointed = _gib(found.checkpointed.total)
    if found.exact.total <= SAFE * free:
        return (
            f"{needs}: {FEWER}; zeroth-order is the wrong tool here unless the objective has no gradient. {SWITCH}"
        )
    if found.checkpointed.total <= SAFE * free:
        return f"{needs}: it fits only with gradient checkpointing (about {checkpointed}). If so, {FEWER}. {SWITCH}"
    return f"{needs}: it does not fit, not even with gradient checkpointing ({checkpointed}). {_own(found, free)}"


def advice_for(base: Base, profile: Profile, *data: Tokenized) -> str:
    """Gives the advice for a run on a loaded base.

    Args:
        base: The frozen model.
        profile: The settings.
        *data: Tokenized training rows, and validation rows if there are any.
    """
    work = work_of(profile, base.context_length, *data)
    found = estimate(profile, anatomy(base.model.config), work, device=base.device.type)
    return advice(
        found,
        free_bytes(base.device, found.weights),
        differentiable=profile.objective.differentiable,
        exact=profile.method.needs_gradients,
    )


def _for_exact(found: MemoryEstimate, free: int) -> str:
    needed = found.zeroth_order.total
    sentence = f"With exact gradients this run needs about {_gib(needed)}, and {_gib(free)} are free"
    if needed <= free:
        return f"{sentence}."
    return f"{sentence}: lower batch.examples or batch.max_tokens, or use a method with forward passes only."


def _own(found: MemoryEstimate, free: int) -> str:
    whole, lean = found.zeroth_order.total, found.lean.total
    if whole <= free:
        return f"Zeroth-order is what fits: about {_gib(whole)}."
    if lean <= free:
        return f"Zeroth-order is what fits, with {LEAN}: about {_gib(lean)} instead of {_gib(whole)}."
    return f"Zeroth-order needs about {_gib(lean)}, which is too much as well: {SMALLER}."


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):.0f} MiB"
