"""The plain oracle: one forward for each probe. Memory: inference plus one copy of what is perturbed."""

from collections.abc import Sequence

import torch

from steerzo_edge.data.batches import Batch
from steerzo_edge.zo.blocks import Block
from steerzo_edge.zo.oracle import ProbeForward
from steerzo_edge.zo.strategy import Probe


class SequentialOracle:
    """Evaluates probes one after the other.

    Args:
        bench: Where probes are laid out; its count is how many go into one forward, and must be 1.
    """

    def __init__(self, bench: ProbeForward) -> None:
        self._bench = bench

    def evaluate(self, probes: Sequence[Probe], batch: Batch, block: Block) -> list[float]:
        """See `Oracle.evaluate`."""
        with torch.inference_mode():
            try:
                answers = [self._bench.losses([probe], batch, block) for probe in probes]
            except torch.OutOfMemoryError as error:
                self._bench.shrink(error)
                raise
            return [float(loss) for loss in torch.cat(answers).tolist()]
