"""What the settings of all methods have in common: probe radius, scaling, noise; and how they become a strategy.

A method is one file in `zo/strategies` with two classes: a strategy that talks in probes and losses, and its
settings, derived from `Method`. One line in the union of `zo/methods.py` makes it known to profiles, the API, the
page and the estimates, and to hybrid runs as an estimator.
"""

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from steerzo_edge.config import Config
from steerzo_edge.zo.noise import Distribution
from steerzo_edge.zo.scaling import Scaled, Scaling
from steerzo_edge.zo.strategy import Strategy

PoolSize = Annotated[int, Field(ge=2, le=256, description="Candidates a step.")]
Reject = Annotated[
    float | None,
    Field(gt=0, description="Drop candidates whose loss lies above the median by so many standard deviations."),
]


class AnyMethod(Config):
    """What the engine asks of every method, zeroth-order or not.

    Attributes:
        needs_gradients: Whether a step computes gradients, which the objective must then have.
        keeps_versions: Whether the journal lacks what moved the parameters, so that a resume or a rewind begins at
            a saved version and computes the steps since then again.
        default_rule: The kind of rule where a profile names none.
        automatic_rate: What `rule.learning_rate: auto` means, in words.
        is_decided: Whether it can run as it is; otherwise `estimate/choice.py` decides what it stands for.
    """

    needs_gradients: ClassVar[bool] = False
    keeps_versions: ClassVar[bool] = False
    default_rule: ClassVar[Literal["sgd", "adam"]] = "sgd"
    automatic_rate: ClassVar[str] = "found automatically before the first step"

    @property
    def is_decided(self) -> bool:
        """See `AnyMethod`."""
        return True

    @property
    def cost_in_words(self) -> str:
        """What a step costs, for people."""
        return f"{self.cost} forwards"  # type: ignore[attr-defined]

    def exact_layers_of(self, trained: int) -> int:
        """Of how many trained decoder layers, from the top, a step computes exact gradients."""
        return trained if self.needs_gradients else 0

    def probe_rate(self, learning_rate: float | str) -> float | str:
        """The setting of the rate at which parameters move along what probes estimate.

        Args:
            learning_rate: The setting of the rule.
        """
        return learning_rate

    def searches(self, learning_rate: float | str) -> bool:
        """Whether a run spends forwards on settings left to "auto" before its first step.

        Args:
            learning_rate: The setting of the rule.
        """
        return False


class Method(AnyMethod):
    """The settings that all zeroth-order methods share."""

    epsilon: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = Field(
        "auto", description="Probe radius, in units of the parameters; auto finds it before the first step."
    )
    scaling: Scaling = Field("none", description="How estimates are scaled: see `zo/scaling.py`.")
    clip: float | None = Field(
        None,
        gt=1,
        description="Largest slope, in root mean squares of the slopes before it; null: no limit.",
    )
    noise: Distribution = Field("gaussian", description="What directions are drawn from.")

    @model_validator(mode="after")
    def _scaling_can_be_done(self) -> Self:
        if self.scaling == "pool-std" and "pool" not in type(self).model_fields:
            raise PydanticCustomError("no_pool", "scaling pool-std needs a method with a pool")
        if self.scaling == "normalized" and self.clip is not None:
            raise PydanticCustomError("clip", "normalized steps all have one length: there is nothing to clip")
        return self

    def build(self, epsilon: float) -> Strategy:
        """The strategy at a probe radius, with its scaling and clipping around it."""
        plain = self.strategy(epsilon)
        return plain if self.scaling == "none" and self.clip is None else Scaled(plain, self.scaling, self.clip)

    @property
    def cost(self) -> int:
        """Forward passes a step."""
        return self.strategy(1.0).cost

    @property
    def probes(self) -> int:
        """Probes a step: all of its forward passes."""
        return self.cost

    @property
    def seeds(self) -> int:
        """Most seeds that the directions of one step are made of: each is drawn once a step."""
        return self.strategy(1.0).seeds

    def searches(self, learning_rate: float | str) -> bool:
        """See `AnyMethod.searches`."""
        return self.epsilon == "auto" or isinstance(learning_rate, str)

    @abstractmethod
    def strategy(self, epsilon: float) -> Strategy:
        """The bare strategy at a probe radius."""
