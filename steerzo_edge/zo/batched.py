"""The batched oracle: K probes in one forward, each on its own copy of the batch's rows.

The frozen layers run once over all K * S tokens: their weights are read and expanded once for the round.
Memory: inference on K batches, plus K copies of what is perturbed. Too much? Then the chunk is halved and tried
again; the step is not lost.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from steerzo_edge.data.batches import Batch
from steerzo_edge.model.base import Base
from steerzo_edge.model.graphs import Graphs
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.subset import Subset
from steerzo_edge.zo.blocks import Block
from steerzo_edge.zo.noise import Noise
from steerzo_edge.zo.oracle import Bench
from steerzo_edge.zo.strategy import Probe


class BatchedOracle:
    """Evaluates up to `chunk` probes in one forward.

    Args:
        base: The frozen model.
        subset: What is perturbed.
        noise: Where directions get their numbers.
        prefix: What enters the lowest trained layer, if that is above the first.
        chunk: Most probes a forward; it shrinks when memory runs out.
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
        chunk: int,
        option_mass: float = 0.0,
        graphs: Graphs | None = None,
    ) -> None:
        self._bench = Bench(base, subset, noise, prefix, count=chunk, option_mass=option_mass, graphs=graphs)

    @property
    def chunk(self) -> int:
        """Most probes that are put into one forward now."""
        return self._bench.count

    def evaluate(self, probes: Sequence[Probe], batch: Batch, block: Block) -> list[float]:
        """See `Oracle.evaluate`."""
        answers: list[Tensor] = []
        done = 0
        with torch.inference_mode():
            while done < len(probes):
                part = probes[done : done + self.chunk]
                try:
                    answers.append(self._bench.losses(part, batch, block))
                except torch.OutOfMemoryError as error:
                    self._bench.shrink(error)
                    continue
                done += len(part)
            return [float(loss) for loss in torch.cat(answers).tolist()]
