"""The batched oracle: K probes in one forward, each on its own copy of the batch's rows.

The frozen layers run once over all K * S tokens: their weights are read and expanded once for the round.
Memory: inference on K batches, plus K copies of what is perturbed. Too much? Then the chunk is halved and tried
again; the step is not lost.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from steerzo_edge.data.batches import Batch
from steerzo_edge.zo.blocks import Block
from steerzo_edge.zo.oracle import ProbeForward
from steerzo_edge.zo.strategy import Probe


class BatchedOracle:
    """Evaluates up to `chunk` probes in one forward; fewer when memory runs out.

    Args:
        bench: Where probes are laid out; its count is how many go into one forward.
    """

    def __init__(self, bench: ProbeForward) -> None:
        self._bench = bench

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
