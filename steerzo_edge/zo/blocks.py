"""Block coordinates: the part of the parameters that one step perturbs and moves.

Usually there is one block that holds all parameters. With blocks of a few decoder layers each (MeZO-BCD,
arXiv:2501.19099) the probes of a step differ only from the block's lowest layer on, so the layers below it are
computed once for all probes; and with fewer coordinates a random direction is closer to the gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from steerzo_edge.model.layers import layer_index
from steerzo_edge.model.subset import Slot
from steerzo_edge.seeds import derive_seed
from steerzo_edge.zo.noise import CACHE_BYTES, Distribution, Noise


@dataclass(frozen=True, slots=True)
class Block:
    """A run of decoder layers, and the part of the parameter vector that lies in them.

    Args:
        index: Position among the blocks, lowest layers first.
        first_layer: Its lowest decoder layer.
        layers: Dotted names of its linear layers.
        span: Its part of d.
        segments: Its indices into `Noise.segments`.
    """

    index: int
    first_layer: int
    layers: frozenset[str]
    span: slice
    segments: range


@dataclass(frozen=True, slots=True)
class Blocks:
    """All blocks of a subset, and which of them each step perturbs.

    Args:
        noise: Cut at the blocks' bounds.
        blocks: Lowest layers first.
        order: "cycle" takes them in turn, "random" draws one for each step.
        seed: Of the random order.
    """

    noise: Noise
    blocks: tuple[Block, ...]
    order: Literal["cycle", "random"] = "cycle"
    seed: int = 0

    def of(self, step: int) -> Block:
        """The block of a step: a pure function."""
        turn = step if self.order == "cycle" else derive_seed("block", self.seed, step)
        return self.blocks[turn % len(self.blocks)]


def cut(
    slots: Sequence[Slot],
    device: torch.device | str,
    *,
    layers: int | None = None,
    cache_bytes: int = CACHE_BYTES,
    order: Literal["cycle", "random"] = "cycle",
    seed: int = 0,
    distribution: Distribution = "gaussian",
    below: int | None = None,
) -> Blocks:
    """Cuts a parameter vector into blocks of decoder layers.

    Args:
        slots: Of the subset: all matrices of the vector, lowest decoder layer first.
        device: Where noise is made.
        layers: Decoder layers in a block, counted from the lowest that is trained; None makes one block.
        cache_bytes: How much noise is kept within a step.
        order: As in `Blocks`.
        seed: Of the random order.
        distribution: Of the noise.
        below: Blocks are made of the decoder layers below this one only; the others are in no block. None: of all.
    """
    trained = sorted(
        layer for layer in {layer_index(slot.layer) for slot in slots} if below is None or layer < below
    )
    size = layers or len(trained)
    groups = [trained[start : start + size] for start in range(0, len(trained), size)]
    members = [[slot for slot in slots if layer_index(slot.layer) in group] for group in groups]
    spans = [slice(group[0].start, group[-1].stop) for group in members]
    cuts = [span.stop for span in spans]
    noise = Noise(slots[-1].stop, device, cache_bytes, cuts=cuts, distribution=distribution)
    blocks = []
    for index, (group, own, span) in enumerate(zip(groups, members, spans, strict=True)):
        inside = [i for i, s in enumerate(noise.segments) if span.start <= s.start < span.stop]
        names = frozenset(slot.layer for slot in own)
        blocks.append(Block(index, group[0], names, span, range(inside[0], inside[-1] + 1)))
    return Blocks(noise, tuple(blocks), order, seed)
