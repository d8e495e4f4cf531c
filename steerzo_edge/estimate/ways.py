"""The ways to run one job, side by side, each with little memory and with more.

    way                            memory of the process      seconds a step
    forward passes only, lean
    forward passes only, fast
    hybrid, lean
    hybrid, fast
    exact gradients, lean
    exact gradients, fast

A step with exact gradients is worth many steps of forward passes only: usually 10 to 100 (arXiv:2510.03425). Hybrid
is shown with the profile's own number of exact layers, or with half of the trained ones.
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
from steerzo_edge.training.hybrid import HybridConfig
from steerzo_edge.zo.methods import ForwardOnly


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a job.

    Args:
        method: The `method.kind`.
        exact_layers: Trained layers with exact gradients.
        memory: The setting `memory`.
        bytes: Of the process, libraries included.
        seconds: Of a step.
        fits: Whether the process stays within what is free.
        kept: What a step keeps for its backward pass, in words; "" where there is none.
    """

    method: str
    exact_layers: int
    memory: str
    bytes: int
    seconds: float
    fits: bool
    kept: str = ""


def ways_of(profile: Profile, body: Anatomy, work: Work, speed: Speed, *, device: str, free: int) -> list[Way]:
    """Estimates a profile's own forward-only method, hybrid and exact gradients, each with `memory` lean and fast.

    Args:
        profile: The settings; ways that are not possible are left out.
        body: The model's sizes.
        work: Of the largest batch, and of all rows.
        speed: Of the device.
        device: "cpu" or "cuda".
        free: Bytes that may be used, those of the loaded base included.
    """
    found = []
    for each in ways_to_run(profile, body):
        trained = trained_by(each, body)
        layers = len(trained.layers)
        exact_layers = each.method.exact_layers_of(layers)
        plan = planned(each, body, work, device=device, free=free)
        needed = run_needs(each, body, trained, work, plan, device=device).total
        found.append(
            Way(
                method=each.method.kind,
                exact_layers=exact_layers,
                memory=str(each.memory),
                bytes=RUNTIME_BYTES + needed,
                seconds=step_effort(each, body, trained, work, plan).seconds(speed),
                fits=needed <= free,
                kept=_kept(plan, exact_layers),
            )
        )
    return found


def ways_to_run(profile: Profile, body: Anatomy) -> list[Profile]:
    """The settings of the ways: forward passes only, hybrid, exact gradients, each `memory` lean and then fast.

    Args:
        profile: The settings; hybrid and exact gradients are left out where they are not possible.
        body: The model's sizes.
    """
    own = profile.method if isinstance(profile.method, ForwardOnly) else FORWARD_ONLY
    profiles = [with_method(profile, own)]
    with suppress(ProfileError):  # an objective without a gradient, or blocks of layers
        exact = with_method(profile, ExactConfig())
        if (layers := len(trained_by(exact, body).layers)) > 1:
            hybrid = profile.method if isinstance(profile.method, HybridConfig) else HybridConfig(estimator=own)
            if not hybrid.is_decided:
                hybrid = hybrid.model_copy(update={"exact_layers": layers // 2})
            profiles.append(with_method(profile, hybrid))
        profiles.append(exact)
    return [each.model_copy(update={"memory": memory}) for each in profiles for memory in ("lean", "fast")]


def _kept(plan: Plan, exact_layers: int) -> str:
    if exact_layers == 0:
        return ""
    if plan.kept_layers == 0:
        return "checkpointing"
    if plan.kept_layers >= exact_layers:
        return "all layers kept"
    return f"{plan.kept_layers} of {exact_layers} layers kept"
