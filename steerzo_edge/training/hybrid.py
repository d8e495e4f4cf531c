"""The method `hybrid`: its settings.

The topmost trained layers get exact gradients, and those below an estimate from probes. `training/linearized.py`
says why a probe ends below the exact layers, and what a step costs. The two parts have a rule each: the exact part
that of the profile, usually Adam; the estimated part plain gradient descent, as forward-only methods have it. An
estimate is mostly noise, of which Adam's running squares would learn the size only, for 8 bytes a trained number.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from steerzo_edge.errors import ProfileError
from steerzo_edge.training.exact import ADAM_RATE, MaxNorm, SnapshotEvery
from steerzo_edge.training.rates import LearningRate
from steerzo_edge.zo.method import AnyMethod
from steerzo_edge.zo.methods import ForwardOnly
from steerzo_edge.zo.noise import Distribution
from steerzo_edge.zo.strategies.all_losses import AllLossesConfig
from steerzo_edge.zo.strategy import Strategy


class HybridConfig(AnyMethod):
    """Hybrid: computes exact gradients for the top layers, and tries random directions in the layers below.

    Cost: 1 forward, the backward pass of the top layers, and the estimator's forwards through the layers below.
    """

    kind: Literal["hybrid"] = "hybrid"
    exact_layers: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="Trained layers with exact gradients, from the top; auto: as many as `memory` allows."
    )
    estimator: Annotated[ForwardOnly, Field(discriminator="kind")] = Field(
        default_factory=AllLossesConfig,
        description="The method for the layers below: one with forward passes only.",
    )
    learning_rate: LearningRate = Field("auto", description="Peak rate of the layers below.")
    max_norm: MaxNorm = 1.0
    snapshot_every: SnapshotEvery = 10
    needs_gradients: ClassVar[bool] = True
    keeps_versions: ClassVar[bool] = True
    default_rule: ClassVar[Literal["sgd", "adam"]] = "adam"
    automatic_rate: ClassVar[str] = f"a fixed one for Adam, {ADAM_RATE:g}, in the layers with exact gradients"

    @field_validator("estimator", mode="before")
    @classmethod
    def _default_estimator(cls, value: Any) -> Any:
        return {"kind": "all-losses", **value} if isinstance(value, Mapping) else value

    @property
    def is_decided(self) -> bool:
        """See `AnyMethod.is_decided`."""
        return self.exact_layers != "auto"

    @property
    def epsilon(self) -> float | Literal["auto"]:
        """Probe radius of the estimator."""
        return self.estimator.epsilon

    @property
    def noise(self) -> Distribution:
        """What the estimator's directions are drawn from."""
        return self.estimator.noise

    @property
    def probes(self) -> int:
        """See `AnyMethod.probes`."""
        return self.estimator.cost

    @property
    def cost(self) -> int:
        """Forward passes a step; the probes' end below the layers with exact gradients."""
        return 1 + self.probes

    @property
    def seeds(self) -> int:
        """Most seeds that the directions of one step are made of."""
        return self.estimator.seeds

    @property
    def cost_in_words(self) -> str:
        """See `AnyMethod.cost_in_words`."""
        return (
            f"1 forward, the backward pass of the top {self.exact_layers} trained layers, and {self.probes} "
            "forwards through the layers below them"
        )

    def exact_layers_of(self, trained: int) -> int:
        """See `AnyMethod.exact_layers_of`.

        Raises:
            ProfileError: If no layer is left for the estimator.
        """
        layers = 1 if self.exact_layers == "auto" else self.exact_layers
        if layers >= trained:
            raise ProfileError(
                f"method.exact_layers is {layers}, but {trained} layers are trained, of which at least "
                "one must be left for the estimator",
                hint=f"Choose at most {trained - 1}, or method exact, which has exact gradients for all of them."
                if trained > 1
                else "Use method exact.",
            )
        return layers

    def probe_rate(self, learning_rate: float | str) -> float | str:
        """See `AnyMethod.probe_rate`: a setting of its own."""
        return self.learning_rate

    def searches(self, learning_rate: float | str) -> bool:
        """See `AnyMethod.searches`; the rule's rate is that of the exact part, which is never searched for."""
        return self.epsilon == "auto" or isinstance(self.learning_rate, str)

    def build(self, epsilon: float) -> Strategy:
        """The estimator's strategy at a probe radius."""
        return self.estimator.build(epsilon)
