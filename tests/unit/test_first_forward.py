"""The check behind every load: rounding passes it, another computation does not."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from steerzo_edge.data.packing import Fork, pack
from steerzo_edge.errors import BaseModelError
from steerzo_edge.model import attention, first_forward
from steerzo_edge.model.base import Base
from steerzo_edge.model.first_forward import check_forward
from steerzo_edge.model.float32 import Float32
from steerzo_edge.model.load import load_base
from steerzo_edge.model.quantization import Quantization
from tests.conftest import byte_tokenizer
from tests.families import FAMILIES, saved

KINDS: tuple[Quantization, ...] = ("nf4", "fp4", "int8", "none")


def loaded(path: Path, kind: Quantization = "none", dtype: torch.dtype = torch.bfloat16) -> Base:
    return load_base(str(path), quantization=kind, compute_dtype=dtype, device="cpu")


@pytest.fixture(scope="module")
def capped(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Its attention scores and its logits are soft-capped, and its attention has a window."""
    config = deepcopy(FAMILIES["gemma2-window-and-caps"])
    config.final_logit_softcapping = 5.0
    return loaded(saved(config, tmp_path_factory.mktemp("capped")), "nf4")


def refused(base: Base) -> None:
    with pytest.raises(BaseModelError, match="in a way that this engine does not support"):
        check_forward(base)


def attending(change: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """The engine's attention with changed arguments."""
    plain = attention._plain

    def changed(*given: Any) -> Any:
        names = ("q", "k", "v", "mask", "scale", "cap")
        return plain(**change(**dict(zip(names, given, strict=True))))

    return changed


@pytest.mark.parametrize(
    "change",
    [
        lambda scale, **others: {"scale": 1.02 * scale, **others},
        lambda cap, **others: {"cap": None, **others},
        lambda mask, **others: {"mask": None, **others},
    ],
    ids=["scale-2-percent-off", "no-cap-on-scores", "no-window"],
)
def test_another_attention_is_refused(
    capped: Base, monkeypatch: pytest.MonkeyPatch, change: Callable[..., dict[str, Any]]
) -> None:
    check_forward(capped)
    monkeypatch.setattr(attention, "_plain", attending(change))
    refused(capped)


def test_logits_without_their_cap_are_refused(capped: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capped.head, "_finish", lambda logits: logits)
    refused(capped)


def test_states_that_leak_from_row_to_row_are_refused(capped: Base) -> None:
    """A recurrent layer carries the end of one row into the next."""
    norm = capped.model.base_model.layers[1].post_attention_layernorm
    forward = norm.forward
    norm.forward = lambda x: forward(x) + 0.01 * forward(x).roll(1, dims=1)
    check = pytest.raises(BaseModelError, match="does not support")
    try:
        with check:
            check_forward(capped)
    finally:
        norm.forward = forward
    check_forward(capped)


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_alone_is_accepted(tmp_path: Path, kind: Quantization) -> None:
    """One weight makes a state a thousand times larger than all others, as in models with attention sinks."""
    model = AutoModelForCausalLM.from_config(deepcopy(FAMILIES["smollm-shape"]), dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.ndim == 2:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / tensor.shape[-1] ** 0.5))
    model.model.layers[0].mlp.down_proj.weight.data[3] *= 1000
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    base = loaded(tmp_path, kind)
    # The weight matters: in 16 bits the two forwards are as far apart as a wrong computation.
    tokens = first_forward._tokens(base)
    packed = pack([Fork(tokens[:5]), Fork(tokens)])
    with torch.inference_mode():
        own = base.model(input_ids=torch.tensor([tokens])).logits[0].float()
        assert (
            first_forward.distance(first_forward._logits(base, packed, own.shape[-1]), own) > first_forward._BOUND
        )


def test_numbers_that_are_not_finite_are_refused(tiny_path: Path) -> None:
    base = loaded(tiny_path)
    base.model.model.norm.weight.data[3] = torch.inf
    with pytest.raises(BaseModelError, match="not finite"):
        check_forward(base)


def test_the_mode_computes_what_a_float32_model_computes() -> None:
    config = deepcopy(FAMILIES["gemma2-window-and-caps"])
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    ids = torch.arange(5, 30).unsqueeze(0)
    with torch.inference_mode():
        with Float32():
            found = model(input_ids=ids).logits
        assert found.dtype == torch.float32
        assert next(model.parameters()).dtype == torch.bfloat16
        rounded = model(input_ids=ids).logits.float()
        expected = model.float()(input_ids=ids).logits
    # Gemma scales its embeddings by a number that is kept in the model's type.
    assert float((found - expected).abs().max()) < 0.1 * float((rounded - expected).abs().max())


class Largest(TorchDispatchMode):
    """The size of the largest tensor that an operation makes, in bytes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and not func.is_view:
            self.bytes = max(self.bytes, found.nbytes)
        return found


@pytest.mark.parametrize("bias", [False, True])
def test_a_large_product_is_computed_in_blocks(bias: bool) -> None:
    """The head of a small model with a large vocabulary would be expanded as a whole."""
    head = nn.Linear(8, 3000, bias=bias, dtype=torch.bfloat16)
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode(), Largest() as seen, Float32():
        patch.setattr("steerzo_edge.model.float32._BLOCK", 1 << 12)
        found = head(x)
    torch.testing.assert_close(
        found, nn.functional.linear(x, head.weight.float(), head.bias.float() if bias else None)
    )
    assert seen.bytes < head.weight.nbytes
