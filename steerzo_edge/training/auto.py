"""The method `auto`: its settings. What it stands for is decided in `estimate/choice.py` before a run begins."""

from typing import ClassVar, Literal

from steerzo_edge.zo.method import AnyMethod
from steerzo_edge.zo.noise import Distribution
from steerzo_edge.zo.strategies.all_losses import AllLossesConfig
from steerzo_edge.zo.strategy import Strategy

FORWARD_ONLY = AllLossesConfig()


class AutoConfig(AnyMethod):
    """Automatic: takes exact gradients where memory and objective allow them, and forward passes only elsewhere.

    Cost: that of the method that is chosen; of `all-losses` at most.
    """

    kind: Literal["auto"] = "auto"
    automatic_rate: ClassVar[str] = "that of the method that is chosen"
    epsilon: ClassVar[float] = 0.0
    noise: ClassVar[Distribution] = "gaussian"
    cost: ClassVar[int] = FORWARD_ONLY.cost
    seeds: ClassVar[int] = FORWARD_ONLY.seeds
    probes: ClassVar[int] = FORWARD_ONLY.probes

    @property
    def is_decided(self) -> bool:
        """See `AnyMethod.is_decided`."""
        return False

    def build(self, epsilon: float) -> Strategy:
        """There is no strategy before the choice is made.

        Raises:
            TypeError: Always.
        """
        raise TypeError("method auto stands for another method: see estimate/choice.py")
