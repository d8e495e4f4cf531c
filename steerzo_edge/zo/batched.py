"""The batched oracle: K probes in one forward, each on its own copy of the batch's rows.

The frozen layers run once over all K * N rows: their weights are read and dequantized once for the round.
Memory: inference on K batches, plus K copies of the subset. Too much? Then the chunk is halved and tried
again; the step is not lost.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from steerzo_edge.data.batches import Batch
from steerzo_edge.errors import CapacityError
from steerzo_edge.model.base import Base
from steerzo_edge.model.subset import Copies, Subset
from steerzo_edge.objectives import losses
from steerzo_edge.zo.noise import Noise
from steerzo_edge.zo.oracle import Perturbation
from steerzo_edge.zo.strategy import Probe


class BatchedOracle:
    """Evaluates up to `chunk` probes in one forward.

    Args:
        base: The frozen model.
        subset: What is perturbed.
        noise: Where directions get their numbers.
        chunk: Most probes a forward; it shrinks when memory runs out.
    """

    def __init__(self, base: Base, subset: Subset, noise: Noise, *, chunk: int) -> None:
        self._base = base
        self._subset = subset
        self._perturbation = Perturbation(subset, noise)
        self._copies = Copies(subset, chunk)

    @property
    def chunk(self) -> int:
        """Most probes that are put into one forward now."""
        return self._copies.count

    def evaluate(self, probes: Sequence[Probe], batch: Batch) -> list[float]:
        """See `Oracle.evaluate`."""
        answers: list[Tensor] = []
        done = 0
        with torch.inference_mode():
            while done < len(probes):
                part = probes[done : done + self.chunk]
                try:
                    answers.append(self._forward(part, batch))
                except torch.OutOfMemoryError as error:
                    self._shrink(error)
                    continue
                done += len(part)
            return [float(loss) for loss in torch.cat(answers).tolist()]

    def _forward(self, probes: Sequence[Probe], batch: Batch) -> Tensor:
        self._perturbation.write(self._copies, probes)
        with self._base.bank.route(self._copies.stacked(len(probes))):
            return losses(self._base, batch, len(probes))  # (K,)

    def _shrink(self, error: torch.OutOfMemoryError) -> None:
        if self.chunk == 1:
            raise CapacityError("one probe does not fit into the device's memory") from error
        self._copies = Copies(self._subset, self.chunk // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
