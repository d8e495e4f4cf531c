"""The oracle of one process: it reads the run's own parameters, and puts several probes into one forward.

Memory: inference on K batches, plus K copies of what is perturbed; with `count` 1, inference plus one copy. When
memory runs out the number of probes in a forward is halved and the part is tried again; the step is not lost.
"""

import torch
from torch import Tensor

from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.oracle import Round
from steerzo_edge.zo.probe_forward import ProbeForward


class LocalOracle:
    """Evaluates up to `count` probes in one forward; fewer when memory runs out.

    Args:
        forward: Measures the probes; its count is how many go into one forward.
    """

    def __init__(self, forward: ProbeForward) -> None:
        self._forward = forward

    def evaluate(self, round: Round) -> list[float]:
        """See `Oracle.evaluate`."""
        losses: list[Tensor] = []
        done = 0
        with torch.inference_mode():
            while done < len(round.probes):
                part = round.probes[done : done + self._forward.count]
                try:
                    losses.append(self._forward.losses(part, round.step, round.block))
                except torch.OutOfMemoryError as error:
                    self._forward.halve(error)
                    continue
                done += len(part)
            return [float(loss) for loss in torch.cat(losses).tolist()]

    def follow(self, entry: Entry) -> None:
        """See `Oracle.follow`. The run has moved the parameters itself: they are the same tensor."""
        self._forward.forget_inputs()
