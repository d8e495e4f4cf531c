"""How parameters move along an estimated gradient.

State is as large as the adapter, so it is cheap, and float32. A rule works segment by segment, so the
gradient never exists as a whole.
"""

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor

Gradient = Iterable[tuple[slice, Tensor]]


class Rule(Protocol):
    """One update rule."""

    def step(self, parameters: Tensor, gradient: Gradient, learning_rate: float) -> None:
        """Moves the parameters in place.

        Args:
            parameters: (d,) float32, the master copy.
            gradient: Pairs (segment of d, its (length,) float32 numbers), covering d once, in order.
            learning_rate: This step's rate, after the schedule.
        """
        ...

    def effective_step(self, gradient: float) -> float:
        """How far one step goes at rate 1, all its after-effects included.

        Args:
            gradient: Root mean square of independent gradients.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """What a snapshot must hold besides the parameters; live tensors, copy before changing."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes back what `state` gave."""
        ...
