"""Routes: which patch each linear layer uses in one forward, by the layer's name.

    uniform(adapter)      all rows use one adapter                          evaluation, a single prompt
    rows([a, None, b])    every row uses its own adapter, or none           many users in one batch

Two more routes are made elsewhere: K probes of one subset (`Copies.stacked`), and several prompts one after another
in one row of tokens (`segments`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from steerzo_edge.model.patches import LoraPatch, MixedPatch, Patch, Patches
from steerzo_edge.model.row_loras import RowLoras


def uniform(adapter: Patches | None) -> Patches:
    """The route where all rows use one adapter, or the bare base for None."""
    return {} if adapter is None else adapter


def rows(adapters: Sequence[Patches | None]) -> Patches:
    """The route where row i uses adapters[i], or the bare base for None.

    Args:
        adapters: One for each row of the batch; patches of one group each. Ranks and targets may differ.
    """
    names = dict.fromkeys(name for adapter in adapters if adapter for name in adapter)
    return {name: _of_rows([None if a is None else a.get(name) for a in adapters]) for name in names}


def _of_rows(patches: Sequence[Patch | None]) -> Patch:
    if any(not isinstance(patch, LoraPatch) for patch in patches if patch is not None):
        return MixedPatch(tuple(patches))
    a, b = _stacked([patch for patch in patches if isinstance(patch, LoraPatch)])
    if len(a) < len(patches):
        adapted = [row for row, patch in enumerate(patches) if patch is not None]
        a, b = (
            part.new_zeros(len(patches), *part.shape[1:]).index_copy_(
                0, torch.tensor(adapted, device=part.device), part
            )
            for part in (a, b)
        )
    return RowLoras(a, b) if a.device.type == "cpu" else LoraPatch(a, b, 1.0)


def _stacked(loras: Sequence[LoraPatch]) -> tuple[Tensor, Tensor]:
    """(n, R, D) and (n, O, R), the latter multiplied by the scale; lower ranks are padded with zeros.

    Adapters of one rank and scale take few calls: this runs for every layer whenever a row joins or leaves.
    """
    ranks = [lora.a.shape[1] for lora in loras]
    if len({(lora.a.shape[1], lora.scale) for lora in loras}) == 1:
        return torch.cat([lora.a for lora in loras]), torch.cat([lora.b for lora in loras]).mul_(loras[0].scale)
    rank = max(ranks)
    a = loras[0].a.new_zeros(len(loras), rank, loras[0].a.shape[2])
    b = loras[0].b.new_zeros(len(loras), loras[0].b.shape[1], rank)
    for row, (lora, own) in enumerate(zip(loras, ranks, strict=True)):
        a[row, :own] = lora.a[0]
        b[row, :, :own] = lora.b[0] * lora.scale
    return a, b
