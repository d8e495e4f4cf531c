"""LoRA-XS: an R x R matrix between frozen factors taken from the layer's own weight. Source: arXiv:2405.17604.

    delta W = alpha / R * left C right        left = sqrt(O / R) U      right = c S V^T      U S V^T ~ W

R^2 numbers a layer are trained, whatever its width: the noise of a zeroth-order step is spread over few
coordinates.

The paper puts S on the output side. Here it is on the input side, where S V^T x = U^T W x: the input of C is the
layer's own output along its R strongest output directions, and the output of C is added along the same directions.
The scales are chosen so that epsilon and learning rate mean the same as for a LoRA with a random frozen A. With
c = sqrt(R / (3 sum S^2)) the mean square of right x is R |x|^2 / (3 D) for an x without a preferred direction, as
for that A; columns of length sqrt(O / R) make a perturbation of C move the output as far as one of B does.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from steerzo_edge.errors import ProfileError
from steerzo_edge.model.bank import BankLinear
from steerzo_edge.model.lora import lora_config
from steerzo_edge.model.patches import LoraXsPatch, Patches
from steerzo_edge.model.spectrum import leading
from steerzo_edge.model.subset import Matrices, Slot, lay_out, matrices
from steerzo_edge.seeds import derive_seed


class LoraXs:
    """LoRA-XS on the given layers, as a trainable subset.

    Args:
        layers: The bank's layers it adapts, by dotted name.
        rank: R.
        alpha: The product is scaled by alpha / R.
        frozen: `lora_xs_factors` of the same layers and rank.
        compute_dtype: The type the layers compute in.
        device: Where the master copy lives.
    """

    def __init__(
        self,
        layers: Mapping[str, BankLinear],
        *,
        rank: int,
        alpha: float,
        frozen: Tensor,
        compute_dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        self.rank = rank
        self.alpha = alpha
        self.compute_dtype = compute_dtype
        self.slots = lay_out([(name, "C", (rank, rank)) for name in layers])
        self.parameters: Tensor = torch.zeros(self.slots[-1].stop, dtype=torch.float32, device=device)
        self.frozen: Tensor = frozen.to(device, torch.float32)
        self._factors = _factor_slots(layers, rank)
        self._compute_frozen = self.frozen.to(compute_dtype)

    def patches(self, flat: Tensor, span: slice | None = None) -> Patches:
        """See `Subset.patches`."""
        return self.patches_of(matrices(self.slots, flat, span))

    def patches_of(self, trained: Matrices) -> Patches:
        """See `Subset.patches_of`."""
        found = {}
        for (layer, _), middle in trained.items():
            right, left = (factor.of(self._compute_frozen) for factor in self._factors[layer])
            found[layer] = LoraXsPatch(right, middle, left, self.alpha / self.rank)
        return found

    def export(self) -> dict[str, Tensor]:
        """See `Subset.export`: an ordinary LoRA whose B is left C."""
        found = {}
        for slot in self.slots:
            right, left = (factor.of(self.frozen) for factor in self._factors[slot.layer])
            place = f"base_model.model.{slot.layer}"
            found[f"{place}.lora_A.weight"] = right.cpu().clone()
            found[f"{place}.lora_B.weight"] = (left @ slot.of(self.parameters)).cpu()
        return found

    def peft_config(self) -> dict[str, object]:
        """See `Subset.peft_config`."""
        return lora_config(self.rank, self.alpha, [slot.layer for slot in self.slots])


def lora_xs_factors(
    layers: Mapping[str, BankLinear], *, rank: int, seed: int, compute_dtype: torch.dtype
) -> Tensor:
    """Computes the frozen factors of each layer from its dequantized weight; one weight is expanded at a time.

    Args:
        layers: The bank's layers, by dotted name.
        rank: R.
        seed: For the start of the subspace iteration.
        compute_dtype: The type that weights are expanded to.

    Returns:
        For each layer its (R, D) right and its (O, R) left factor, all in one flat float32 tensor.

    Raises:
        ProfileError: If a layer has fewer than R features on either side.
    """
    for name, layer in layers.items():
        smaller = min(layer.in_features, layer.out_features)
        if rank > smaller:
            raise ProfileError(f"subset.rank is {rank}, but layer {name!r} has {smaller} features on one side")
    factors: list[Tensor] = []
    with torch.no_grad():
        for name, layer in layers.items():
            generator = torch.Generator().manual_seed(derive_seed("core", seed, name))
            factors += _factors(layer.weight_like_base(compute_dtype), rank, generator)
        return torch.cat([factor.flatten() for factor in factors])


def _factors(weight: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    found = leading(weight, rank, generator)
    energy = float(found.values.square().sum())
    scale = (rank / (3 * energy)) ** 0.5 if energy > 0 else 1.0  # a weight of zeros cannot be scaled
    right = scale * found.values.unsqueeze(1) * found.right  # (R, D)
    return right, (len(weight) / rank) ** 0.5 * found.left


def _factor_slots(layers: Mapping[str, BankLinear], rank: int) -> dict[str, tuple[Slot, Slot]]:
    shapes = []
    for name, layer in layers.items():
        shapes += [(name, "right", (rank, layer.in_features)), (name, "left", (layer.out_features, rank))]
    slots = lay_out(shapes)
    return {right.layer: (right, left) for right, left in zip(slots[::2], slots[1::2], strict=True)}
