"""The oracle answers probes with losses. It alone touches the model; it never touches the parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from steerzo_edge.data.batches import Batch
from steerzo_edge.model.subset import Copies, Subset
from steerzo_edge.zo.noise import Noise
from steerzo_edge.zo.strategy import Probe


class Oracle(Protocol):
    """Evaluates probes on a batch."""

    def evaluate(self, probes: Sequence[Probe], batch: Batch) -> list[float]:
        """The batch loss at parameters + radius * direction, for each probe.

        Args:
            probes: One round of a strategy.
            batch: The same rows for all of them, in the same shape.

        Returns:
            Losses in nats, in the order of the probes; nan or inf where the model gave that.

        Raises:
            CapacityError: If memory does not suffice for a single probe.

        Note:
            The subset's parameters are bitwise untouched afterwards, also when this raises.
        """
        ...


@dataclass(frozen=True, slots=True)
class Perturbation:
    """Writes perturbed versions of a subset into copies.

    Args:
        subset: Whose master copy is perturbed, and never written to.
        noise: Where directions get their numbers.
    """

    subset: Subset
    noise: Noise

    def write(self, copies: Copies, probes: Sequence[Probe]) -> None:
        """Version k becomes parameters + radius_k * direction_k, summed in float32, then cast.

        Args:
            copies: Room for at least as many versions as probes.
            probes: At most `copies.count`.
        """
        for index, segment in enumerate(self.noise.segments):
            master = self.subset.parameters[segment]
            for k, probe in enumerate(probes):
                values = probe.direction.materialize(self.noise, index)
                copies.write(k, segment, values.mul_(probe.radius).add_(master))
