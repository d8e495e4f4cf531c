"""The plain oracle: one forward for each probe. Memory: inference plus one copy of the subset."""

from collections.abc import Sequence

import torch

from steerzo_edge.data.batches import Batch
from steerzo_edge.errors import CapacityError
from steerzo_edge.model.base import Base
from steerzo_edge.model.subset import Copies, Subset
from steerzo_edge.objectives import losses
from steerzo_edge.zo.noise import Noise
from steerzo_edge.zo.oracle import Perturbation
from steerzo_edge.zo.strategy import Probe


class SequentialOracle:
    """Evaluates probes one after the other.

    Args:
        base: The frozen model.
        subset: What is perturbed.
        noise: Where directions get their numbers.
    """

    def __init__(self, base: Base, subset: Subset, noise: Noise) -> None:
        self._base = base
        self._perturbation = Perturbation(subset, noise)
        self._copies = Copies(subset, 1)

    def evaluate(self, probes: Sequence[Probe], batch: Batch) -> list[float]:
        """See `Oracle.evaluate`."""
        answers = []
        with torch.inference_mode():
            for probe in probes:
                self._perturbation.write(self._copies, [probe])
                try:
                    with self._base.bank.route(self._copies.stacked(1)):
                        answers.append(losses(self._base, batch))
                except torch.OutOfMemoryError as error:
                    raise CapacityError("one probe does not fit into the device's memory") from error
            return [float(loss) for loss in torch.cat(answers).tolist()]
