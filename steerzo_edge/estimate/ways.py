"""The ways to run one job, side by side: forward passes only and exact gradients, with little memory and with more.

    way                            memory of the process      seconds a step
    forward passes only, lean
    forward passes only, fast
    exact gradients, lean
    exact gradients, fast

A step with exact gradients is worth many steps of forward passes only: usually 10 to 100 (arXiv:2510.03425).
"""

from contextlib import suppress
from dataclasses import dataclass

from steerzo_edge.errors import ProfileError
from steerzo_edge.estimate.anatomy import Anatomy
from steerzo_edge.estimate.effort import Speed, step_effort
from steerzo_edge.estimate.plan import RUNTIME_BYTES, planned, run_needs
from steerzo_edge.estimate.work import Work, trained_by
from steerzo_edge.estimate.zeroth_order import Plan
from steerzo_edge.settings.profile import Profile, with_method
from steerzo_edge.training.auto import FORWARD_ONLY
from steerzo_edge.training.exact import ExactConfig


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a job.

    Args:
        method: The `method.kind`.
        memory: The setting `memory`.
        bytes: Of the process, libraries included.
        seconds: Of a step.
        fits: Whether the process stays within what is free.
        kept: What a step keeps for its backward pass, in words; "" where there is none.
    """

    method: str
    memory: str
    bytes: int
    seconds: float
    fits: bool
    kept: str = ""


def ways_of(profile: Profile, body: Anatomy, work: Work, speed: Speed, *, device: str, free: int) -> list[Way]:
    """Estimates a profile's own forward-only method and exact gradients, each with `memory` lean and fast.

    Args:
        profile: The settings; exact gradients are left out where they are not possible.
        body: The model's sizes.
        work: Of the largest batch, and of all rows.
        speed: Of the device.
        device: "cpu" or "cuda".
        free: Bytes that may be used, those of the loaded base included.
    """
    found = []
    for changed in ways_to_run(profile):
        trained = trained_by(changed, body)
        plan = planned(changed, body, work, device=device, free=free)
        needed = run_needs(changed, body, trained, work, plan, device=device).total
        seconds = step_effort(changed, body, trained, work, plan).seconds(speed)
        kept = _kept(changed, plan, body.layers - trained.first_layer)
        found.append(
            Way(changed.method.kind, str(changed.memory), RUNTIME_BYTES + needed, seconds, needed <= free, kept)
        )
    return found


def ways_to_run(profile: Profile) -> list[Profile]:
    """A profile's own forward-only method and exact gradients, each with `memory` lean and then fast.

    Args:
        profile: The settings; exact gradients are left out where they are not possible.
    """
    forwards_only = profile.method.is_decided and not profile.method.needs_gradients
    own = profile.method if forwards_only else FORWARD_ONLY
    profiles = [with_method(profile, own)]
    with suppress(ProfileError):  # an objective without a gradient, or blocks of layers
        profiles.append(with_method(profile, ExactConfig()))
    return [each.model_copy(update={"memory": memory}) for each in profiles for memory in ("lean", "fast")]


def _kept(profile: Profile, plan: Plan, layers: int) -> str:
    if not profile.method.needs_gradients:
        return ""
    if plan.kept_layers == 0:
        return "checkpointing"
    return "all layers kept" if plan.kept_layers >= layers else f"{plan.kept_layers} of {layers} layers kept"
