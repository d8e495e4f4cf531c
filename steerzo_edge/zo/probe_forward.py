"""Lays probes out beside the parameters and measures their losses: one forward for up to `count` probes.

The frozen layers run once over the rows of all probes: their weights are read and expanded once. What all probes of
a step have in common (the batch, the hidden states that enter the block's lowest layer, the other blocks' patches)
is made once a step and kept under the key (step, block). Where memory is short, the rows of a batch go through in
parts: a loss is a mean over rows, and all probes see the same parts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steerzo_edge.data.batches import Batch
from steerzo_edge.data.packing import Packed
from steerzo_edge.errors import CapacityError
from steerzo_edge.model.base import Base, HiddenStates
from steerzo_edge.model.patches import Patches
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.subset import Copies, Subset
from steerzo_edge.objectives.likelihood import losses
from steerzo_edge.objectives.objective import Objective
from steerzo_edge.zo.blocks import Block, Blocks
from steerzo_edge.zo.strategy import Probe


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a step's batch that go through the model together.

    Args:
        batch: The rows.
        share: Of all rows of the step.
        states: Hidden states that enter the block's lowest layer, or None to begin at the embedding.
    """

    batch: Batch
    share: float
    states: HiddenStates | None


@dataclass(frozen=True, slots=True)
class StepInputs:
    """What all probes of a step have in common.

    Args:
        parts: The step's rows; usually all in one part.
        block: The block that is perturbed.
        unperturbed_patches: Patches of the other blocks, at the master's values.
    """

    parts: tuple[Part, ...]
    block: Block
    unperturbed_patches: Patches


class ProbeForward:
    """Measures probes with forwards of the base.

    Args:
        base: The frozen model.
        subset: Holds the parameters that are perturbed; they are read, never written.
        blocks: Which part of them a step perturbs, and the noise that gives directions their numbers.
        batches: The batch of a step, a pure function of its index.
        prefix: Hidden states that enter the lowest trained layer, if that is above the first.
        count: Most probes in one forward.
        objective: What a loss is: a mean over rows.
        parts: Cuts a batch into the rows that go through the model together.
    """

    def __init__(
        self,
        base: Base,
        subset: Subset,
        blocks: Blocks,
        batches: Callable[[int], Batch],
        prefix: PrefixStore | None = None,
        *,
        count: int,
        objective: Objective = losses,
        parts: Callable[[Batch], Sequence[Batch]] = lambda batch: [batch],
    ) -> None:
        self._base = base
        self._subset = subset
        self._blocks = blocks
        self._batches = batches
        self._prefix = prefix
        self._count = count
        self._objective = objective
        self._parts = parts
        self._copies: Copies | None = None
        self._master: Copies | None = None
        self._inputs: tuple[tuple[int, int], StepInputs] | None = None

    @property
    def count(self) -> int:
        """Most probes that go into one forward now."""
        return self._count

    def halve(self, error: torch.OutOfMemoryError) -> None:
        """Halves the number of probes in one forward, and frees what was allocated for the old number.

        Raises:
            CapacityError: If it is one already.
        """
        if self._count == 1:
            raise CapacityError("one probe does not fit into the device's memory") from error
        self._count //= 2
        self._copies = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def forget_inputs(self) -> None:
        """Drops what was derived from the parameters: they have moved."""
        self._inputs = None

    def losses(self, probes: Sequence[Probe], step: int, block: int) -> Tensor:
        """The losses of at most `count` probes.

        Args:
            probes: K of them.
            step: Whose batch they are measured on.
            block: Index of the block that they perturb.

        Returns:
            (K,) float32, on the device.
        """
        inputs = self._inputs_for(step, block)
        copies = self._written(probes, inputs.block)
        patches = {**inputs.unperturbed_patches, **copies.stacked(len(probes))}
        with self._base.bank.route(patches, inputs.block.first_layer):
            found = [self._objective(self._base, part.batch, len(probes), part.states) for part in inputs.parts]
        if len(found) == 1:
            return found[0]
        shares = torch.tensor([part.share for part in inputs.parts], dtype=found[0].dtype, device=found[0].device)
        return shares @ torch.stack(found)

    def _written(self, probes: Sequence[Probe], block: Block) -> Copies:
        """Version k: parameters + radius_k * direction_k, summed in float32, then cast."""
        copies = self._copies
        if copies is None or copies.span != block.span:
            copies = self._copies = None  # blocks take turns; there is room for one at a time
            copies = self._copies = Copies(self._subset, self._count, block.span)
        noise = self._blocks.noise
        for index in block.segments:
            segment = noise.segments[index]
            master = self._subset.parameters[segment]
            for k, probe in enumerate(probes):
                self._base.bank.preemption_hook()
                copies.write(k, segment, probe.direction.added_to(master, probe.radius, noise, index))
        return copies

    def _inputs_for(self, step: int, block: int) -> StepInputs:
        if self._inputs is None or self._inputs[0] != (step, block):
            self._inputs = None  # there is room for one step's
            self._inputs = (step, block), self._prepared(self._batches(step), self._blocks.blocks[block])
        return self._inputs[1]

    def _prepared(self, batch: Batch, block: Block) -> StepInputs:
        whole = block.span.stop - block.span.start == self._subset.parameters.numel()
        unperturbed: Patches = {}
        if not whole:
            if self._master is None:
                # Where blocks take turns, each is among the others' unperturbed ones.
                above = len(self._blocks.blocks) == 1 and block.span.start == 0
                others = slice(block.span.stop, self._subset.parameters.numel()) if above else None
                self._master = Copies(self._subset, 1, others)
            unperturbed = {name: patch for name, patch in self._master.hold().items() if name not in block.layers}
        parts = [
            Part(part, len(part.indices) / len(batch.indices), self._states(part.packed, block, unperturbed))
            for part in self._parts(batch)
        ]
        return StepInputs(tuple(parts), block, unperturbed)

    def _states(self, packed: Packed, block: Block, unperturbed: Patches) -> HiddenStates | None:
        states = None if self._prefix is None else self._prefix.of(packed)
        below = states.layer if states is not None else 0
        if unperturbed and block.first_layer > below:
            with self._base.bank.route(unperturbed):
                states = self._base.hidden_at(block.first_layer, packed, states)
        return states
