"""The plain oracle: one forward for each probe. Memory: inference plus one copy of what is perturbed."""

from collections.abc import Sequence

import torch

from steerzo_edge.data.batches import Batch
from steerzo_edge.model.base import Base
from steerzo_edge.model.graphs import Graphs
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.subset import Subset
from steerzo_edge.zo.blocks import Block
from steerzo_edge.zo.noise import Noise
from steerzo_edge.zo.oracle import Bench
from steerzo_edge.zo.strategy import Probe


class SequentialOracle:
    """Evaluates probes one after the other.

    Args:
        base: The frozen model.
        subset: What is perturbed.
        noise: Where directions get their numbers.
        prefix: What enters the lowest trained layer, if that is above the first.
        option_mass: As in `losses`.
        graphs: Records forwards and replays them; for subsets of one block.
    """

    def __init__(
        self,
        base: Base,
        subset: Subset,
        noise: Noise,
        prefix: PrefixStore | None = None,
        *,
        option_mass: float = 0.0,
        graphs: Graphs | None = None,
    ) -> None:
        self._bench = Bench(base, subset, noise, prefix, count=1, option_mass=option_mass, graphs=graphs)

    def evaluate(self, probes: Sequence[Probe], batch: Batch, block: Block) -> list[float]:
        """See `Oracle.evaluate`."""
        with torch.inference_mode():
            try:
                answers = [self._bench.losses([probe], batch, block) for probe in probes]
            except torch.OutOfMemoryError as error:
                self._bench.shrink(error)
                raise
            return [float(loss) for loss in torch.cat(answers).tolist()]
