"""LoRA-XS: factors taken from the weight, the scale of a LoRA, and files that peft reads."""

from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from steerzo_edge.data.packing import Fork, pack
from steerzo_edge.errors import ProfileError
from steerzo_edge.model.adapter_file import load_adapter, save_adapter
from steerzo_edge.model.base import Base
from steerzo_edge.model.subset import Copies, Subset
from steerzo_edge.settings.profile import resolve
from tests.conftest import Loader
from tests.unit.test_spectrum import largest_sine

RANK, ALPHA = 4, 6
ROWS = pack([Fork((5, 6))])


def lora_xs_of(base: Base, rank: int = RANK, seed: int = 3) -> Subset:
    return resolve({"subset": {"kind": "lora-xs", "rank": rank, "alpha": ALPHA}}).subset.build(base, seed, ROWS)


def moved(subset: Subset) -> Subset:
    generator = torch.Generator().manual_seed(7)
    subset.parameters.add_(torch.randn(subset.parameters.shape, generator=generator), alpha=0.2)
    return subset


@pytest.mark.parametrize("quantization", ["nf4", "int8", "none"])
def test_the_factors_are_the_weights_own(tiny: Loader, quantization: str) -> None:
    base = tiny(quantization, torch.float32)
    subset = lora_xs_of(base)
    assert subset.parameters.numel() == RANK * RANK * len(base.bank.layers)
    for name, patch in subset.patches(subset.parameters.unsqueeze(0)).items():
        weight = base.bank.layers[name].weight_like_base(torch.float32)
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        # Random weights have no gap between their values, so the spans agree to a few hundredths only.
        assert largest_sine(torch.nn.functional.normalize(patch.right), right[:RANK]) < 0.05  # type: ignore[attr-defined]
        assert largest_sine(torch.nn.functional.normalize(patch.left.T), left[:, :RANK].T) < 0.05  # type: ignore[attr-defined]
        lengths = patch.right.norm(dim=1)  # type: ignore[attr-defined]
        torch.testing.assert_close(lengths / lengths[0], values[:RANK] / values[0], rtol=0.01, atol=0)
        # What the trained matrix is given is the layer's own output along the left directions.
        given = patch.left.T @ weight  # type: ignore[attr-defined]
        torch.testing.assert_close(given / given.norm(), patch.right / patch.right.norm(), rtol=0, atol=0.01)  # type: ignore[attr-defined]


def test_a_probe_changes_outputs_as_much_as_one_of_lora(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    lora = resolve({"subset": {"kind": "lora", "rank": 16, "alpha": 32}}).subset.build(base, 3, ROWS)
    lora_xs = resolve({"subset": {"kind": "lora-xs", "rank": 16, "alpha": 32}}).subset.build(base, 3, ROWS)
    generator = torch.Generator().manual_seed(2)
    ratios = []
    for name, layer in base.bank.layers.items():
        x = torch.randn(500, layer.in_features, generator=generator)
        moves = []
        for subset in (lora, lora_xs):
            z = torch.randn(subset.parameters.shape, generator=generator).unsqueeze(0)
            moves.append((subset.patches(z)[name](layer, x) - layer(x)).square().mean())
        ratios.append(moves[1] / moves[0])
    # Inputs without a preferred direction; 21 layers, 256 trained numbers each.
    assert float(torch.stack(ratios).log().mean().exp()) == pytest.approx(1, rel=0.15)


def test_the_same_bits_again(tiny: Loader) -> None:
    base = tiny("nf4")
    first, again = lora_xs_of(base).frozen, lora_xs_of(base).frozen
    assert torch.equal(first, again)


@pytest.mark.parametrize("rank", [1, 2, 5, 8, 16])
def test_the_exported_adapter_is_the_same_in_peft(tiny: Loader, tiny_path: Path, tmp_path: Path, rank: int) -> None:
    base = tiny("none", torch.float32)
    subset = moved(lora_xs_of(base, rank))
    save_adapter(tmp_path / "adapter", subset, base)
    ids = torch.tensor([list(range(5, 25)), list(range(105, 125))])
    plain = AutoModelForCausalLM.from_pretrained(tiny_path, dtype=torch.float32).eval()
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    with torch.inference_mode():
        bare = base.model(input_ids=ids).logits
        with base.bank.route(Copies(subset, 1).hold()):
            ours = base.model(input_ids=ids).logits
        with base.bank.route(load_adapter(tmp_path / "adapter", base)):
            reloaded = base.model(input_ids=ids).logits
        expected = theirs(input_ids=ids).logits
        merged = theirs.merge_and_unload()(input_ids=ids).logits
    for other in (reloaded, expected, merged):  # the same float32 products in another order
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=2e-4)
    assert float((ours - bare).abs().max()) > 0.05


def test_a_rank_that_a_layer_cannot_have(tiny: Loader) -> None:
    with pytest.raises(ProfileError, match=r"subset.rank is 33, but layer '.*k_proj' has 32 features"):
        lora_xs_of(tiny("none", torch.float32), 33)


def test_changing_the_kind_keeps_shared_settings() -> None:
    document = {"subset": {"kind": "lora", "rank": 6, "targets": ["q_proj"], "last_layers": 2, "freeze_a": True}}
    subset = resolve(document, {"subset.kind": "lora-xs"}).subset
    assert subset.model_dump(include={"kind", "rank", "targets", "last_layers"}) == {
        "kind": "lora-xs",
        "rank": 6,
        "targets": ["q_proj"],
        "last_layers": 2,
    }
