"""Decides what `method: auto` stands for: the most exact gradients that fit, forward passes only where none do.

    exact gradients for all trained layers      if their leanest plan stays within the bound
    hybrid, for as many of them as possible     if its leanest plan does, with at least one layer
    forward passes only                         otherwise; refused if they take more than a size that was named

The bound is that of the setting `memory` for forward passes only, the need that of the leanest plan. Under `lean`
and a size the choice depends on settings, model and rows alone; under `fast` also on what is free. A run that is
resumed keeps the method that it began with.
"""

from dataclasses import dataclass

from steerzo_edge.estimate.anatomy import Anatomy
from steerzo_edge.estimate.plan import RUNTIME_BYTES, bound_and_least
from steerzo_edge.estimate.work import Work, trained_by
from steerzo_edge.settings.methods import MethodConfig
from steerzo_edge.settings.profile import Profile, with_method
from steerzo_edge.training.auto import FORWARD_ONLY
from steerzo_edge.training.exact import ExactConfig
from steerzo_edge.training.hybrid import HybridConfig


@dataclass(frozen=True, slots=True)
class Choice:
    """What a profile with `method: auto` stands for, or one with `exact_layers: auto`.

    Args:
        profile: The same settings with the method and the rule that were chosen.
        sentence: What was chosen, why, and what the next step up would need.
    """

    profile: Profile
    sentence: str


@dataclass(frozen=True, slots=True)
class _Limits:
    """What the choice is made by.

    Args:
        profile: The settings.
        body: The model's sizes.
        work: Of the largest batch, and of all rows.
        device: "cpu" or "cuda".
        free: As in `planned`.
    """

    profile: Profile
    body: Anatomy
    work: Work
    device: str
    free: int | None

    def bound(self) -> int:
        """Bytes that `memory` allows with forward passes only."""
        forward_only = self.taking(FORWARD_ONLY)
        return bound_and_least(forward_only, self.body, self.work, device=self.device, free=self.free)[0]

    def taking(self, method: MethodConfig) -> Profile:
        """The profile with a method; with another kind of method, also with the rule that goes with it."""
        if method.kind == self.profile.method.kind:
            return self.profile.model_copy(update={"method": method})
        return with_method(self.profile, method)

    def least(self, method: MethodConfig) -> int:
        """Bytes of a method's leanest plan; under `lean` a batch is never cut into parts."""
        lean, least = bound_and_least(self.taking(method), self.body, self.work, device=self.device, free=self.free)
        return lean if self.profile.memory == "lean" else least

    def trained_layers(self) -> int:
        return len(trained_by(self.taking(ExactConfig()), self.body).layers)

    def most_exact_layers(self, hybrid: HybridConfig, bound: int) -> int:
        """The most layers with exact gradients of which the leanest plan stays within the bound; 0 if none do."""
        fits, fails = 0, self.trained_layers()  # needs rise with the number of layers
        while fails - fits > 1:
            middle = (fits + fails) // 2
            if self.least(_with_layers(hybrid, middle)) <= bound:
                fits = middle
            else:
                fails = middle
        return fits


def chosen(profile: Profile, body: Anatomy, work: Work, *, device: str, free: int | None = None) -> Choice | None:
    """Chooses the method of a profile, or a hybrid method's number of layers; None if the profile names both.

    Args:
        profile: The settings.
        body: The model's sizes.
        work: Of the largest batch, and of all rows.
        device: "cpu" or "cuda".
        free: Bytes that `fast` may use, those of the loaded base included; None asks the system.
    """
    if profile.method.is_decided:
        return None
    limits = _Limits(profile, body, work, device, free)
    if isinstance(profile.method, HybridConfig):
        return _layers_chosen(limits, profile.method)
    forward_only = with_method(profile, FORWARD_ONLY)
    reason = None
    if not profile.objective.differentiable:
        reason = f"objective {profile.objective.kind} has no gradient"
    elif profile.subset.block_layers is not None:
        reason = "subset.block_layers perturbs a part of the layers at a time"
    if reason is not None:
        return Choice(forward_only, f"method auto: forward passes only, because {reason}.")
    bound, needed = limits.bound(), limits.least(ExactConfig())
    allowed = f"memory {profile.memory!r} allows {_process(bound)}"
    if needed <= bound:
        sentence = f"method auto: exact gradients, which need at least {_process(needed)}; {allowed}."
        return Choice(with_method(profile, ExactConfig()), sentence)
    trained, hybrid = limits.trained_layers(), HybridConfig(estimator=FORWARD_ONLY)
    above = f"exact gradients for all of them would need {_process(needed)}"
    if trained == 1:
        sentence = f"exact gradients would need {_process(needed)}, and {allowed}"
        return Choice(forward_only, f"method auto: forward passes only; {sentence}.")
    layers = limits.most_exact_layers(hybrid, bound)
    if layers == 0:
        one = _process(limits.least(_with_layers(hybrid, 1)))
        sentence = f"exact gradients for 1 of {trained} trained layers (hybrid) would need {one}, and {allowed}"
        return Choice(forward_only, f"method auto: forward passes only; {sentence}.")
    taken = _with_layers(hybrid, layers)
    sentence = f"{_in_words(layers, trained)}, which needs at least {_process(limits.least(taken))}; {allowed}"
    return Choice(with_method(profile, taken), f"method auto: hybrid, {sentence}, and {above}.")


def _layers_chosen(limits: _Limits, hybrid: HybridConfig) -> Choice:
    """The number of layers of a hybrid method: at least one, whatever it takes."""
    bound, trained = limits.bound(), limits.trained_layers()
    layers = max(1, limits.most_exact_layers(hybrid, bound))
    taken = _with_layers(hybrid, layers)
    needed = f"which needs at least {_process(limits.least(taken))}"
    sentence = f"{_in_words(layers, trained)}, {needed}; memory {limits.profile.memory!r} allows {_process(bound)}"
    return Choice(limits.taking(taken), f"method hybrid: {sentence}.")


def _with_layers(hybrid: HybridConfig, layers: int) -> HybridConfig:
    return hybrid.model_copy(update={"exact_layers": layers})


def _in_words(layers: int, trained: int) -> str:
    return f"exact gradients for the top {layers} of {trained} trained layers"


def _process(size: int) -> str:
    """Bytes of a run as the whole process would have them."""
    return f"{-(-(size + RUNTIME_BYTES) >> 20):,} MiB"
