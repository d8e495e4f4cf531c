"""Heavy-ball momentum: m = beta m + g, theta -= rate * m. One float32 copy of the subset."""

import torch
from torch import Tensor

from steerzo_edge.zo.rule import Gradient


class Momentum:
    """m = beta m + (1 - dampening) g, then theta -= rate * m, as `torch.optim.SGD(momentum=beta)`.

    Args:
        size: d.
        device: Where the state lives.
        beta: Decay of the running sum; 0 is plain SGD.
        dampening: Share of each gradient that is left out. With `dampening = beta` the step keeps the
            size of a plain SGD step; 0 is torch's default, and multiplies it by up to 1 / (1 - beta).
    """

    def __init__(
        self, size: int, device: torch.device | str = "cpu", *, beta: float = 0.9, dampening: float = 0.0
    ) -> None:
        self.beta = beta
        self.dampening = dampening
        self._velocity = torch.zeros(size, dtype=torch.float32, device=device)

    def step(self, parameters: Tensor, gradient: Gradient, learning_rate: float) -> None:
        """See `Rule.step`."""
        for segment, g in gradient:
            velocity = self._velocity[segment]
            velocity.mul_(self.beta).add_(g, alpha=1 - self.dampening)
            parameters[segment].add_(velocity, alpha=-learning_rate)

    def effective_step(self, gradient: float) -> float:
        """See `Rule.effective_step`."""
        return gradient * (1 - self.dampening) / (1 - self.beta)

    def state(self) -> dict[str, Tensor]:
        """The running sum."""
        return {"velocity": self._velocity}

    def restore(self, state: dict[str, Tensor]) -> None:
        """See `Rule.restore`."""
        self._velocity.copy_(state["velocity"])
