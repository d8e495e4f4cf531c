"""The oracle answers probes with losses. It alone touches the model; it never touches the parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from steerzo_edge.data.batches import Batch
from steerzo_edge.data.packing import Packed
from steerzo_edge.errors import CapacityError
from steerzo_edge.model.base import Base, HiddenStates
from steerzo_edge.model.graphs import Graphs
from steerzo_edge.model.patches import Patches
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.subset import Copies, Subset
from steerzo_edge.objectives.likelihood import Objective, losses
from steerzo_edge.zo.blocks import Block
from steerzo_edge.zo.noise import Noise
from steerzo_edge.zo.strategy import Dialogue, Estimate, Probe


class Oracle(Protocol):
    """Evaluates probes on a batch."""

    def evaluate(self, probes: Sequence[Probe], batch: Batch, block: Block) -> list[float]:
        """The batch loss at parameters + radius * direction, for each probe.

        Args:
            probes: One round of a strategy.
            batch: The same rows for all of them, in the same shape.
            block: The part of the parameters that is perturbed.

        Returns:
            Losses in nats, in the order of the probes; nan or inf where the model gave that.

        Raises:
            CapacityError: If memory does not suffice for a single probe.

        Note:
            The subset's parameters are bitwise untouched afterwards, also when this raises.
        """
        ...


def converse(dialogue: Dialogue, oracle: Oracle, batch: Batch, block: Block) -> tuple[Estimate, int]:
    """One step's dialogue between strategy and oracle.

    Returns:
        The estimate, and the number of forward passes it took.
    """
    forwards = 0
    probes = next(dialogue)
    while True:
        losses = oracle.evaluate(probes, batch, block)
        forwards += len(probes)
        try:
            probes = dialogue.send(losses)
        except StopIteration as end:
            return end.value, forwards


@dataclass(slots=True)
class _StepInputs:
    """What all probes of a step stand on.

    Args:
        packed: The batch's rows.
        block: The block that is perturbed.
        unperturbed_patches: Patches of the other blocks, at the master's values.
        entering: Hidden states that enter the block's lowest layer, or None to begin at the embedding.
    """

    packed: Packed
    block: Block
    unperturbed_patches: Patches
    entering: HiddenStates | None


class ProbeForward:
    """Where probes are laid out and measured; shared by the oracles.

    Args:
        base: The frozen model.
        subset: What is perturbed.
        noise: Where directions get their numbers.
        prefix: What enters the lowest trained layer, if that is above the first.
        count: Most probes in one forward.
        objective: What a loss is.
        graphs: Records forwards and replays them; for subsets of one block.
    """

    def __init__(
        self,
        base: Base,
        subset: Subset,
        noise: Noise,
        prefix: PrefixStore | None = None,
        *,
        count: int,
        objective: Objective = losses,
        graphs: Graphs | None = None,
    ) -> None:
        self._base = base
        self._subset = subset
        self._noise = noise
        self._prefix = prefix
        self._count = count
        self._objective = objective
        self._graphs = graphs
        self._copies: Copies | None = None
        self._master: Copies | None = None
        self._ground: _StepInputs | None = None

    @property
    def count(self) -> int:
        """Most probes that go into one forward now."""
        return self._count

    def shrink(self, error: torch.OutOfMemoryError) -> None:
        """Halves the number of probes in one forward.

        Raises:
            CapacityError: If it is one already.
        """
        if self._count == 1:
            raise CapacityError("one probe does not fit into the device's memory") from error
        self._count //= 2
        self._copies = None
        if self._graphs is not None:
            self._graphs.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def losses(self, probes: Sequence[Probe], batch: Batch, block: Block) -> Tensor:
        """The losses of at most `count` probes: (K,) float32, on the device."""
        ground = self._inputs_for(batch, block)
        copies = self._written(probes, block)
        patches = {**ground.unperturbed_patches, **copies.stacked(len(probes))}

        def measure(given: tuple[Batch, HiddenStates | None]) -> Tensor:
            with self._base.bank.route(patches, block.first_layer):
                return self._objective(self._base, given[0], len(probes), given[1])

        if self._graphs is None:
            return measure((batch, ground.entering))
        return self._graphs.run(measure, (batch, ground.entering), len(probes))

    def _written(self, probes: Sequence[Probe], block: Block) -> Copies:
        """Version k: parameters + radius_k * direction_k, summed in float32, then cast."""
        copies = self._copies
        if copies is None or copies.span != block.span:
            copies = self._copies = None  # blocks take turns; there is room for one at a time
            copies = self._copies = Copies(self._subset, self._count, block.span)
        for index in block.segments:
            segment = self._noise.segments[index]
            master = self._subset.parameters[segment]
            for k, probe in enumerate(probes):
                self._base.bank.preemption_hook()
                copies.write(k, segment, probe.direction.added_to(master, probe.radius, self._noise, index))
        return copies

    def _inputs_for(self, batch: Batch, block: Block) -> _StepInputs:
        """Made once a step: a batch is one object, and the parameters rest while it is looked at."""
        if self._ground is None or self._ground.packed is not batch.packed or self._ground.block is not block:
            self._ground = self._prepared(batch.packed, block)
        return self._ground

    def _prepared(self, packed: Packed, block: Block) -> _StepInputs:
        entering = None if self._prefix is None else self._prefix.of(packed)
        whole = block.span.stop - block.span.start == self._subset.parameters.numel()
        if whole:
            return _StepInputs(packed, block, {}, entering)
        if self._master is None:
            self._master = Copies(self._subset, 1)
        unperturbed_patches = {
            name: patch for name, patch in self._master.hold().items() if name not in block.layers
        }
        below = entering.layer if entering is not None else 0
        if block.first_layer > below:
            with self._base.bank.route(unperturbed_patches):
                entering = self._base.hidden_at(block.first_layer, packed, entering)
        return _StepInputs(packed, block, unperturbed_patches, entering)
