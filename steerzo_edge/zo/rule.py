"""How parameters move along an estimated gradient.

A rule's state is float32 and as large as the trained parameters. A rule works segment by segment, so the
whole gradient is never in memory at once.
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
        """How far one step moves the parameters at rate 1, with what it adds to later steps through momentum.

        Args:
            gradient: Root mean square of independent gradients.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """The tensors that a snapshot stores in addition to the parameters; they are live: copy before changing."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Sets the state to what `state` gave."""
        ...
