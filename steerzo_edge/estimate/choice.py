"""Decides what `method: auto` stands for: exact gradients where they fit, forward passes only where they do not.

The bound is that of the setting `memory` for forward passes only, the need that of the leanest plan. Under `lean`
and a size the choice depends on settings, model and rows alone; under `fast` also on what is free. A run that is
resumed keeps the method that it began with.
"""

from dataclasses import dataclass

from steerzo_edge.estimate.anatomy import Anatomy
from steerzo_edge.estimate.plan import RUNTIME_BYTES, bound_and_least
from steerzo_edge.estimate.work import Work
from steerzo_edge.settings.profile import Profile, with_method
from steerzo_edge.training.auto import FORWARD_ONLY
from steerzo_edge.training.exact import ExactConfig


@dataclass(frozen=True, slots=True)
class Choice:
    """What a profile with `method: auto` stands for.

    Args:
        profile: The same settings with the method and the rule that were chosen.
        sentence: What was chosen, why, and what the next step up would need.
    """

    profile: Profile
    sentence: str


def chosen(profile: Profile, body: Anatomy, work: Work, *, device: str, free: int | None = None) -> Choice | None:
    """Chooses the method of a profile; None if the profile names one.

    Args:
        profile: The settings.
        body: The model's sizes.
        work: Of the largest batch, and of all rows.
        device: "cpu" or "cuda".
        free: Bytes that `fast` may use, those of the loaded base included; None asks the system.
    """
    if profile.method.is_decided:
        return None
    forward_only = with_method(profile, FORWARD_ONLY)
    reason = None
    if not profile.objective.differentiable:
        reason = f"objective {profile.objective.kind} has no gradient"
    elif profile.subset.block_layers is not None:
        reason = "subset.block_layers perturbs a part of the layers at a time"
    if reason is not None:
        return Choice(forward_only, f"method auto: forward passes only, because {reason}.")
    exact = with_method(profile, ExactConfig())
    bound, _ = bound_and_least(forward_only, body, work, device=device, free=free)
    lean, least = bound_and_least(exact, body, work, device=device, free=free)
    if profile.memory == "lean":
        least = lean  # there, a batch is never cut into parts
    allowed = f"memory {profile.memory!r} allows {_process(bound)}"
    if least > bound:
        needed = f"exact gradients would need {_process(least)}, and {allowed}"
        return Choice(forward_only, f"method auto: forward passes only; {needed}.")
    needed = f"exact gradients, which need at least {_process(least)}; {allowed}"
    return Choice(exact, f"method auto: {needed}.")


def _process(size: int) -> str:
    """Bytes of a run as the whole process would have them."""
    return f"{-(-(size + RUNTIME_BYTES) >> 20):,} MiB"
