"""LoRA's A from the layers' own inputs: its span, its scale, its memory, its seed."""

from typing import Any

import pytest
import torch
from torch import Tensor

from steerzo_edge.assemble import assemble
from steerzo_edge.data.packing import Fork, Packed, pack
from steerzo_edge.errors import BaseModelError, ProfileError
from steerzo_edge.model.base import Base
from steerzo_edge.model.input_subspace import input_subspace
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.parts import Parts
from tests.conftest import DATASETS, Loader
from tests.unit.test_spectrum import largest_sine
from tests.watching import outputs

RANK = 3
ROWS = [Fork(tuple(range(5, 5 + n))) for n in (9, 17, 30)] + [Fork(tuple(range(100, 100 + n))) for n in (31, 40)]


@pytest.fixture
def base(tiny: Loader) -> Base:
    return tiny("none", torch.float32)


@pytest.fixture
def packed() -> Packed:
    return pack(ROWS)


def parts_of(base: Base, seed: int = 5, rows: str = "single-token", **subset: Any) -> Parts:
    profile = resolve(
        {
            "subset": {"kind": "lora", "rank": RANK, "init_a": "input-subspace", **subset},
            "batch": {"examples": 4, "max_tokens": 64},
        }
    )
    return assemble(
        base, profile, tokenized(base.tokenizer, 256, profile, DATASETS[rows](), None, seed=5), seed=seed
    )


def seen_by(base: Base, packed: Packed) -> dict[str, Tensor]:
    """The inputs of every layer, by torch's own hooks: (S, D) each."""
    found: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda module, args: found.__setitem__(module.name, args[0][0].clone()))
        for layer in base.bank.layers.values()
    ]
    with torch.inference_mode():
        base.hidden(packed)
    for hook in hooks:
        hook.remove()
    return found


def test_span_and_scale(base: Base, packed: Packed) -> None:
    flat = input_subspace(base, base.bank.layers, packed, rank=RANK, seed=1)
    start = 0
    for name, x in seen_by(base, packed).items():
        depth = x.shape[1]
        a = flat[start : start + RANK * depth].view(RANK, depth)
        start += RANK * depth
        lengths = a.norm(dim=1)
        torch.testing.assert_close(lengths, lengths[:1].expand(RANK), rtol=1e-5, atol=0)
        expected = torch.linalg.svd(x, full_matrices=False).Vh[:RANK]
        assert largest_sine(a / lengths[0], expected) < 0.01, name
        mean_square = float((x @ a.T).square().sum(1).mean())
        assert mean_square == pytest.approx(RANK * float(x.square().sum(1).mean()) / (3 * depth), rel=1e-4)
    assert start == len(flat)


def test_a_random_a_has_that_mean_square(base: Base, packed: Packed) -> None:
    random, spanning = (
        resolve({"subset": {"kind": "lora", "init_a": start, "rank": 16}}).subset.build(base, 3, packed)
        for start in ("random", "input-subspace")
    )
    seen = seen_by(base, packed)

    def mean_squares(exported: dict[str, Tensor]) -> Tensor:
        weights = [exported[f"base_model.model.{name}.lora_A.weight"] for name in seen]
        return torch.stack([(x @ a.T).square().mean() for x, a in zip(seen.values(), weights, strict=True)])

    # One random draw of 16 rows a layer; the mean of 21 layers comes close.
    ratios = mean_squares(spanning.export()) / mean_squares(random.export())
    assert float(ratios.log().mean().exp()) == pytest.approx(1, rel=0.15)


def test_a_pure_function_of_rows_and_seed(base: Base) -> None:
    first, again, reseeded = (parts_of(base, seed).subset.frozen for seed in (5, 5, 6))
    others = parts_of(base, rows="completion").subset.frozen
    assert torch.equal(first, again)
    assert not torch.allclose(first, reseeded)
    assert not torch.allclose(first, others)


def test_the_base_is_bare_again_and_step_0_is_its_own(base: Base, packed: Packed) -> None:
    with torch.inference_mode():
        before = base.hidden(packed)
        subset = parts_of(base).subset
        with base.bank.route(subset.patches(subset.parameters.unsqueeze(0))):
            assert torch.equal(base.hidden(packed), before)
    assert not base.bank.active


def test_memory(base: Base, packed: Packed) -> None:
    tokens = packed.tokens
    with outputs() as seen:
        flat = input_subspace(base, base.bank.layers, packed, rank=RANK, seed=1)
    assert tokens < 128
    # Nothing is larger than what a forward makes anyway, a layer's (S, D) or a head's scores; no (D, D).
    with outputs() as plain, base.bank.route({}):
        base.hidden(packed)
    assert max(tensor.numel() for tensor in seen) == max([flat.numel(), *(tensor.numel() for tensor in plain)])
    sizes = {(layer.in_features, layer.in_features) for layer in base.bank.layers.values()}
    assert not sizes & {tuple(tensor.shape) for tensor in seen}


def test_a_rank_that_a_layer_cannot_have(base: Base) -> None:
    with pytest.raises(ProfileError, match=r"subset.rank is 65, but layer .* has 64 in-features"):
        parts_of(base, rank=65)


def test_a_trained_a_is_refused() -> None:
    with pytest.raises(ProfileError, match="needs freeze_a: true"):
        resolve({"subset": {"kind": "lora", "init_a": "input-subspace", "freeze_a": False}})


def test_inputs_that_are_not_finite(base: Base, packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = base.model.get_input_embeddings().weight
    before = embedding[7].clone()
    try:
        embedding[7] = torch.inf
        with pytest.raises(BaseModelError, match="not finite"):
            input_subspace(base, base.bank.layers, packed, rank=RANK, seed=1)
    finally:
        embedding[7] = before
