"""The method sections of a profile: how the gradient is estimated, and how estimates are scaled.

A new method is one class here and one file in `zo/strategies`.
"""

from abc import abstractmethod
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from steerzo_edge.config import Config
from steerzo_edge.zo.cone import Cone
from steerzo_edge.zo.noise import Distribution
from steerzo_edge.zo.scaling import Scaled, Scaling
from steerzo_edge.zo.strategies import AllLosses, Greedy, GuidingVector, TwoPoint, WeightedGuide
from steerzo_edge.zo.strategy import Strategy

Pool = Annotated[int, Field(ge=2, le=256, description="Candidates a step.")]
Reject = Annotated[
    float | None,
    Field(gt=0, description="Drop candidates whose loss lies above the median by so many standard deviations."),
]


class ConeConfig(Config):
    """A cone prior (ConMeZO): directions around the running mean of the steps before."""

    angle: float = Field(80.0, gt=0, lt=90, description="Between axis and direction, degrees.")
    decay: float = Field(0.9, ge=0, lt=1, description="Of the running mean.")
    terms: int = Field(32, ge=1, le=1024, description="Most seeds the axis is made of; each is drawn every step.")


class Method(Config):
    """What all methods have in common."""

    epsilon: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = Field(
        "auto", description="Probe radius, in units of the parameters; auto finds it before the first step."
    )
    scaling: Scaling = Field("none", description="How estimates are scaled: see `zo/scaling.py`.")
    clip: float | None = Field(
        None, gt=1, description="Most a slope may be, in running root mean squares of the slopes taken before it."
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
        """The strategy at a probe radius."""
        plain = self._plain(epsilon)
        return plain if self.scaling == "none" and self.clip is None else Scaled(plain, self.scaling, self.clip)

    @property
    def cost(self) -> int:
        """Forward passes a step."""
        return self._plain(1.0).cost

    @property
    @abstractmethod
    def seeds(self) -> int:
        """Most seeds that the directions of one step are made of, those of a cone's axis included."""

    @abstractmethod
    def _plain(self, epsilon: float) -> Strategy: ...


class TwoPointConfig(Method):
    """MeZO: 2 forwards a step."""

    kind: Literal["two-point"] = "two-point"
    cone: ConeConfig | None = Field(None, description="A prior for directions; null draws from the whole sphere.")

    @property
    def seeds(self) -> int:
        """See `Method.seeds`."""
        return 1 + _cone_terms(self.cone)

    def _plain(self, epsilon: float) -> Strategy:
        return _in_cone(TwoPoint(epsilon), self.cone)


class GuidingVectorConfig(Method):
    """MeZO-GV: pool + 2 forwards a step."""

    kind: Literal["guiding-vector"] = "guiding-vector"
    pool: Pool = 2
    elite: float = Field(0.5, gt=0, lt=1, description="Share of the pool that counts as good.")
    history: Literal["fresh", "keep-best"] = Field(
        "fresh", description="keep-best lets the last step's best candidate compete again."
    )
    normalize: bool = Field(True, description="Scale the guide to norm sqrt(d); false is the paper's listing.")

    @property
    def seeds(self) -> int:
        """See `Method.seeds`."""
        return self.pool

    def _plain(self, epsilon: float) -> Strategy:
        return GuidingVector(epsilon, self.pool, self.elite, self.history, self.normalize)


class GreedyConfig(Method):
    """MeZO-Greedy: pool + 1 forwards a step."""

    kind: Literal["greedy"] = "greedy"
    pool: Pool = 4
    cone: ConeConfig | None = Field(None, description="A prior for directions; null draws from the whole sphere.")

    @property
    def seeds(self) -> int:
        """See `Method.seeds`."""
        return self.pool + _cone_terms(self.cone)

    def _plain(self, epsilon: float) -> Strategy:
        return _in_cone(Greedy(epsilon, self.pool), self.cone)


class AllLossesConfig(Method):
    """One-sided multi-query, the default: pool forwards a step, every loss is used."""

    kind: Literal["all-losses"] = "all-losses"
    pool: Pool = 16
    scaling: Scaling = Field("normalized", description="How estimates are scaled: see `zo/scaling.py`.")
    reject: Reject = None

    @property
    def seeds(self) -> int:
        """See `Method.seeds`."""
        return self.pool

    def _plain(self, epsilon: float) -> Strategy:
        return AllLosses(epsilon, self.pool, self.reject)


class WeightedGuideConfig(Method):
    """The guiding vector with every loss as a weight: pool + 2 forwards a step."""

    kind: Literal["weighted-guide"] = "weighted-guide"
    pool: Pool = 8
    normalize: bool = Field(True, description="Scale the guide to norm sqrt(d) before it is probed.")
    reject: Reject = None

    @property
    def seeds(self) -> int:
        """See `Method.seeds`."""
        return self.pool

    def _plain(self, epsilon: float) -> Strategy:
        return WeightedGuide(epsilon, self.pool, self.normalize, self.reject)


MethodConfig = Annotated[
    TwoPointConfig | GuidingVectorConfig | GreedyConfig | AllLossesConfig | WeightedGuideConfig,
    Field(discriminator="kind"),
]


def _cone_terms(cone: ConeConfig | None) -> int:
    return 0 if cone is None else cone.terms


def _in_cone(strategy: Strategy, cone: ConeConfig | None) -> Strategy:
    return strategy if cone is None else Cone(strategy, cone.angle, cone.decay, cone.terms)
