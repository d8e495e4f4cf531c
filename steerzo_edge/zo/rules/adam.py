"""Adam on estimated gradients. Two float32 copies of the subset. Source: arXiv:1412.6980."""

import torch
from torch import Tensor

from steerzo_edge.zo.rule import Gradient


class Adam:
    """Adam with bias correction, as `torch.optim.Adam`.

    Args:
        size: d.
        device: Where the state lives.
        beta1: Decay of the running mean.
        beta2: Decay of the running square.
        stability: Added to the root of the running square (torch calls it eps; here epsilon is the
            probe radius).
    """

    def __init__(
        self,
        size: int,
        device: torch.device | str = "cpu",
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        stability: float = 1e-8,
    ) -> None:
        self.beta1 = beta1
        self.beta2 = beta2
        self.stability = stability
        self._mean = torch.zeros(size, dtype=torch.float32, device=device)
        self._square = torch.zeros(size, dtype=torch.float32, device=device)
        self._count = torch.zeros((), dtype=torch.int64)

    def step(self, parameters: Tensor, gradient: Gradient, learning_rate: float) -> None:
        """See `Rule.step`."""
        self._count += 1
        count = int(self._count)
        rate = learning_rate / (1 - self.beta1**count)
        root = (1 - self.beta2**count) ** 0.5
        for segment, g in gradient:
            mean, square = self._mean[segment], self._square[segment]
            mean.lerp_(g, 1 - self.beta1)
            square.mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
            parameters[segment].addcdiv_(mean, square.sqrt().div_(root).add_(self.stability), value=-rate)

    def effective_step(self, gradient: float) -> float:
        """See `Rule.effective_step`: the division by the running square removes their size."""
        return 1.0

    def state(self) -> dict[str, Tensor]:
        """Running mean, running square, and the number of steps taken."""
        return {"mean": self._mean, "square": self._square, "count": self._count}

    def restore(self, state: dict[str, Tensor]) -> None:
        """See `Rule.restore`."""
        self._mean.copy_(state["mean"])
        self._square.copy_(state["square"])
        self._count.copy_(state["count"])
