"""Trains the full linear weights of the last n decoder layers, unquantized.

The quantized base stays as it is, and keeps serving: the subset starts from its dequantized weights, so step 0
computes what the base computes. Each version replaces the products of these layers instead of adding to them.

Memory: 4 bytes a weight for the master copy, 2 for each version in bf16. Norms and embeddings are not trained.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from steerzo_edge.model.bank import BankLinear
from steerzo_edge.model.patches import Patches, WeightPatch
from steerzo_edge.model.subset import Matrices, lay_out, matrices


class LastLayers:
    """Full weights of the given layers, as a trainable subset.

    Args:
        layers: The bank's layers that are trained, by dotted name.
        compute_dtype: The type the layers compute in.
        device: Where the master copy lives.
    """

    def __init__(
        self,
        layers: Mapping[str, BankLinear],
        *,
        compute_dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        self.compute_dtype = compute_dtype
        self.slots = lay_out(
            [(name, "W", (layer.out_features, layer.in_features)) for name, layer in layers.items()]
        )
        self._biases = {
            name: None if layer.bias is None else layer.bias.to(compute_dtype) for name, layer in layers.items()
        }
        size = sum(layer.out_features * layer.in_features for layer in layers.values())
        self.parameters: Tensor = torch.empty(size, dtype=torch.float32, device=device)
        self.frozen: Tensor = torch.empty(0, dtype=torch.float32, device=device)
        for slot in self.slots:
            slot.of(self.parameters).copy_(layers[slot.layer].weight_like_base(torch.float32))

    def patches(self, flat: Tensor, span: slice | None = None) -> Patches:
        """See `Subset.patches`."""
        return self.patches_of(matrices(self.slots, flat, span))

    def patches_of(self, trained: Matrices) -> Patches:
        """See `Subset.patches_of`."""
        return {layer: WeightPatch(weight, self._biases[layer]) for (layer, _), weight in trained.items()}

    def export(self) -> dict[str, Tensor]:
        """See `Subset.export`: full weights, as PEFT stores `modules_to_save`."""
        return {
            f"base_model.model.{slot.layer}.weight": slot.of(self.parameters).cpu().clone() for slot in self.slots
        }

    def peft_config(self) -> dict[str, object]:
        """See `Subset.peft_config`: a LoRA of no layers, with modules that are saved in full."""
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "inference_mode": True,
            "r": 1,
            "lora_alpha": 1,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": "dummy-target-modules",  # matches no layer: peft only loads the saved modules
            "modules_to_save": sorted(slot.layer for slot in self.slots),
        }
