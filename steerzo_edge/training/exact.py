"""The method `exact`: its settings.

It is no zeroth-order strategy: it asks no probes, so a probe radius, noise and a scaling of estimates have no
meaning for it. `training/gradients.py` computes what a step needs.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from steerzo_edge.zo.method import AnyMethod
from steerzo_edge.zo.noise import Distribution
from steerzo_edge.zo.strategy import Strategy

# Peak rate of Adam where `rule.learning_rate` is "auto": a choice, not a search. The length of Adam's steps does
# not depend on the size of the gradient, so one rate serves many bases and tasks; for LoRA 1e-4 to 2e-3 is usual.
ADAM_RATE = 1e-3


MaxNorm = Annotated[
    float | None,
    Field(gt=0, description="Longer gradients are scaled down to this norm; null: no limit."),
]
SnapshotEvery = Annotated[
    int,
    Field(
        ge=1, description="Steps between snapshots: a run that was killed computes the steps since the last again."
    ),
]


class ExactConfig(AnyMethod):
    """Exact gradients (back-propagation): computes the gradient itself, where memory and the objective allow it.

    Cost: 1 forward and its backward pass a step, about as long as 3 forwards, or 4 where layers are recomputed.
    """

    kind: Literal["exact"] = "exact"
    max_norm: MaxNorm = 1.0
    snapshot_every: SnapshotEvery = 10
    needs_gradients: ClassVar[bool] = True
    keeps_versions: ClassVar[bool] = True
    default_rule: ClassVar[Literal["sgd", "adam"]] = "adam"
    automatic_rate: ClassVar[str] = f"a fixed one for Adam, {ADAM_RATE:g}"
    epsilon: ClassVar[float] = 0.0
    noise: ClassVar[Distribution] = "gaussian"
    cost: ClassVar[int] = 1
    seeds: ClassVar[int] = 0
    probes: ClassVar[int] = 0

    @property
    def cost_in_words(self) -> str:
        """See `AnyMethod.cost_in_words`."""
        return "1 forward and its backward pass"

    def build(self, epsilon: float) -> Strategy:
        """There is no strategy.

        Raises:
            TypeError: Always.
        """
        raise TypeError("exact gradients ask no probes, so they have no strategy")
