"""Plain stochastic gradient descent: theta -= rate * g. No state."""

from torch import Tensor

from steerzo_edge.zo.rule import Gradient


class SGD:
    """theta -= rate * g, as `torch.optim.SGD` without momentum."""

    def step(self, parameters: Tensor, gradient: Gradient, learning_rate: float) -> None:
        """See `Rule.step`."""
        for segment, g in gradient:
            parameters[segment].add_(g, alpha=-learning_rate)

    def effective_step(self, gradient: float) -> float:
        """See `Rule.effective_step`."""
        return gradient

    def state(self) -> dict[str, Tensor]:
        """See `Rule.state`: empty."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """See `Rule.restore`: nothing to restore."""
