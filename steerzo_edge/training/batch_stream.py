"""The batch of each step, a pure function of its index; the latest is kept, because a step needs it twice."""

from collections.abc import Callable

from steerzo_edge.data.batches import Batch


class BatchStream:
    """Makes the batch of a step when it is asked for.

    Args:
        make: Makes it; must give an equal batch for an equal step.
    """

    def __init__(self, make: Callable[[int], Batch]) -> None:
        self._make = make
        self._latest: tuple[int, Batch] | None = None

    def __call__(self, step: int) -> Batch:
        """The batch of step `step`, counted from 0."""
        if self._latest is None or self._latest[0] != step:
            self._latest = None  # frees the old batch first, so that memory never holds two
            self._latest = step, self._make(step)
        return self._latest[1]
