"""LoRA adapters: y + scale * (x A^T) B^T on chosen linear layers. Source: arXiv:2106.09685.

With `freeze_a` (LoRA-FA, arXiv:2308.03303) only B is trained. At B = 0 the derivative with respect to A is
zero, so forward passes with a perturbed A are wasted; freezing A also makes d smaller. A frozen A is random, or
given: `input_subspace.py` computes one that spans the layer's inputs.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from steerzo_edge.model.bank import BankLinear
from steerzo_edge.model.patches import LoraPatch, Patches
from steerzo_edge.model.subset import Matrices, lay_out, matrices


class Lora:
    """LoRA on the given layers, as a trainable subset.

    Args:
        layers: The bank's layers it adapts, by dotted name.
        rank: R.
        alpha: The product is scaled by alpha / R.
        freeze_a: Train B only.
        seed: A is uniform in +-1 / sqrt(D) from this seed (as PEFT starts it); B starts at zero.
        compute_dtype: The type the layers compute in.
        device: Where the master copy lives.
        frozen: With `freeze_a`: every layer's (R, D) A instead of a random one, flat, in the order of `layers`.
    """

    def __init__(
        self,
        layers: Mapping[str, BankLinear],
        *,
        rank: int,
        alpha: float,
        freeze_a: bool,
        seed: int,
        compute_dtype: torch.dtype,
        device: torch.device | str = "cpu",
        frozen: Tensor | None = None,
    ) -> None:
        self.rank = rank
        self.alpha = alpha
        self.freeze_a = freeze_a
        self.compute_dtype = compute_dtype
        kept: list[tuple[str, str, tuple[int, int]]] = []
        trained: list[tuple[str, str, tuple[int, int]]] = []
        for name, layer in layers.items():
            (kept if freeze_a else trained).append((name, "A", (rank, layer.in_features)))
            trained.append((name, "B", (layer.out_features, rank)))
        self.slots = lay_out(trained)
        self.parameters: Tensor = torch.zeros(self.slots[-1].stop, dtype=torch.float32, device=device)
        self._frozen_slots = lay_out(kept)
        self.frozen: Tensor = torch.zeros(
            self._frozen_slots[-1].stop if kept else 0, dtype=torch.float32, device=device
        )
        if frozen is None:
            self._draw(torch.Generator().manual_seed(seed))
        else:
            self.frozen.copy_(frozen)
        self._compute_frozen = self.frozen.to(compute_dtype).unsqueeze(0)  # (1, d_A)

    def _draw(self, generator: torch.Generator) -> None:
        for slot in self._frozen_slots or self.slots:
            if slot.part == "A":
                uniform = torch.rand(slot.shape, generator=generator, dtype=torch.float32) * 2 - 1
                place = slot.of(self.frozen if self.freeze_a else self.parameters)
                place.copy_(uniform / math.sqrt(slot.shape[1]))

    def patches(self, flat: Tensor, span: slice | None = None) -> Patches:
        """See `Subset.patches`."""
        return self.patches_of(matrices(self.slots, flat, span))

    def patches_of(self, trained: Matrices) -> Patches:
        """See `Subset.patches_of`."""
        a = {slot.layer: slot.of(self._compute_frozen) for slot in self._frozen_slots}
        a |= {layer: matrix for (layer, part), matrix in trained.items() if part == "A"}
        b = {layer: matrix for (layer, part), matrix in trained.items() if part == "B"}
        return {name: LoraPatch(a[name], b[name], self.alpha / self.rank) for name in b}

    def export(self) -> dict[str, Tensor]:
        """See `Subset.export`."""
        parts = [(slot, self.frozen) for slot in self._frozen_slots]
        parts += [(slot, self.parameters) for slot in self.slots]
        return {
            f"base_model.model.{slot.layer}.lora_{slot.part}.weight": slot.of(flat).cpu().clone()
            for slot, flat in parts
        }

    def peft_config(self) -> dict[str, object]:
        """See `Subset.peft_config`."""
        return lora_config(self.rank, self.alpha, [slot.layer for slot in self.slots if slot.part == "B"])


def lora_config(rank: int, alpha: float, layers: Sequence[str]) -> dict[str, object]:
    """`adapter_config.json` of a LoRA, with the keys that every peft version knows."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": sorted(layers),
    }
