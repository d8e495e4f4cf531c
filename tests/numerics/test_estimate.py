"""Estimated bytes against what autograd keeps, what a loaded base holds, and what a forward allocates."""

from typing import Any

import peft
import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiler
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    OPTConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen3Config,
)

from steerzo_edge.assemble import assemble
from steerzo_edge.data.packing import Fork, pack
from steerzo_edge.estimate import anatomy, estimate, planned, trained_by, work_of
from steerzo_edge.estimate.exact import saved_bytes
from steerzo_edge.estimate.work import Work
from steerzo_edge.estimate.zeroth_order import layer_bytes, zeroth_order_needs
from steerzo_edge.model.base import Base
from steerzo_edge.model.layers import linear_layers
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import Profile, resolve
from tests.conftest import DATASETS, Loader

ROWS, LENGTH = 6, 60
SIZES: dict[str, Any] = {"vocab_size": 300, "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
ENDS: dict[str, Any] = {"pad_token_id": 1, "bos_token_id": None, "eos_token_id": 0}
FAMILIES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SIZES, **ENDS, intermediate_size=352, num_key_value_heads=2),
    "qwen3": Qwen3Config(**SIZES, **ENDS, intermediate_size=352, num_key_value_heads=2, head_dim=64),
    "opt": OPTConfig(**SIZES, **ENDS, ffn_dim=512, word_embed_proj_dim=128),
    "phi3": Phi3Config(**SIZES, **ENDS, intermediate_size=352, num_key_value_heads=2),
}


def profile_of(dtype: torch.dtype = torch.bfloat16, **subset: Any) -> Profile:
    return resolve(
        {
            "model": {"compute_dtype": str(dtype).removeprefix("torch."), "quantization": "none"},
            "subset": {"kind": "lora", "rank": 8, **subset},
            "batch": {"examples": ROWS, "max_tokens": LENGTH},
        }
    )


def kept_by_autograd(config: PretrainedConfig, dtype: torch.dtype, freeze_a: bool, last: int) -> int:
    """Bytes of distinct storages that a forward with peft's LoRA saves, parameters not counted."""
    plain = AutoModelForCausalLM.from_config(config, dtype=dtype)
    targets = sorted({name.rsplit(".", 1)[-1] for name in linear_layers(plain)})
    lora = peft.LoraConfig(r=8, target_modules=targets, layers_to_transform=list(range(4 - last, 4)))
    model = peft.get_peft_model(plain, lora, autocast_adapter_dtype=False).eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_B" in name or ("lora_A" in name and not freeze_a))
    resting = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in resting:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(5, 250, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, LENGTH // 2 :] = 0
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model.base_model.model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert hidden.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("last", [4, 2])
@pytest.mark.parametrize("freeze_a", [True, False], ids=["frozen-a", "trained-a"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "f32"])
@pytest.mark.parametrize("family", FAMILIES)
def test_saved_activations_are_those_that_autograd_keeps(
    family: str, dtype: torch.dtype, freeze_a: bool, last: int
) -> None:
    config = FAMILIES[family]
    profile = profile_of(dtype, freeze_a=freeze_a, last_layers=last)
    found = estimate(profile, anatomy(config), work_of(profile, 2048), device="cpu").exact["saved activations"]
    kept = kept_by_autograd(config, dtype, freeze_a, last)
    # Not counted: rotary tables and norms' roots (1 %), the final norm, and what the lowest layer need not keep.
    assert found == pytest.approx(kept, rel=0.06)


def test_the_comparison_notices_a_missing_part() -> None:
    body = anatomy(FAMILIES["llama"])
    frozen, trained = (
        saved_bytes(body, trained_by(profile_of(freeze_a=a), body), 0, 2, longest=LENGTH) for a in (True, False)
    )
    assert trained > 1.2 * frozen


@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8", "none"])
def test_weights_are_those_of_a_loaded_base(tiny: Loader, bundled: Base, quantization: str) -> None:
    base = tiny(quantization, torch.bfloat16)
    found = anatomy(base.model.config).weight_bytes(quantization, 2)  # type: ignore[arg-type]
    held = 0
    for parameter in base.model.parameters():
        held += parameter.nbytes
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            nested = state.state2.absmax.nbytes if state.nested else 0
            held += state.absmax.nbytes + nested
        if getattr(parameter, "SCB", None) is not None:
            held += parameter.SCB.nbytes
    # Rotary tables and the quantization's own tables are not counted.
    assert found == pytest.approx(held, rel=0.02)


@pytest.mark.parametrize(
    "subset",
    [
        {"kind": "lora", "rank": 3},
        {"kind": "lora", "rank": 3, "freeze_a": False, "targets": ["q_proj", "up_proj"]},
        {"kind": "lora", "rank": 2, "init_a": "input-subspace", "last_layers": 2, "block_layers": 1},
        {"kind": "lora-xs", "rank": 4, "last_layers": 1},
        {"kind": "last-n-layers", "layers": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("rows", DATASETS)
def test_sizes_are_those_of_the_built_parts(tiny: Loader, subset: dict[str, Any], rows: str) -> None:
    base = tiny("none", torch.float32)
    profile = resolve({"subset": subset, "batch": {"examples": 5, "max_tokens": 64}})
    data = tokenized(base.tokenizer, 256, profile, DATASETS[rows](), None, seed=5)
    parts = assemble(base, profile, data, seed=5)
    trained = trained_by(profile, anatomy(base.model.config))
    assert trained.size == parts.subset.parameters.numel()
    assert trained.frozen == parts.subset.frozen.numel()
    assert trained.block == max(block.span.stop - block.span.start for block in parts.blocks.blocks)
    assert trained.first_layer == parts.blocks.of(0).first_layer
    work = work_of(profile, 256, data.train)
    batches = [parts.batches(step) for step in range(12)]
    largest = max(batch.tokens for batch in batches)
    assert largest <= work.tokens <= work.longest * work.examples
    assert work.tokens < 1.5 * largest
    assert max(len(getattr(batch, "targets", ())) for batch in batches) <= work.places


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "f32"])
@pytest.mark.parametrize("length", [12, 150])
def test_activations_are_what_a_forward_allocates(dtype: torch.dtype, length: int) -> None:
    base_of = {"quantization": "nf4", "compute_dtype": dtype, "device": "cpu"}
    from steerzo_edge.model.load import load_base

    base = load_base(**base_of)  # type: ignore[arg-type]
    packed = pack([Fork(tuple(range(5, 5 + length)))] * 16)
    measured = allocated(base, packed)
    body = anatomy(base.model.config)
    profile = resolve({"model": {"compute_dtype": str(dtype).removeprefix("torch.")}})
    work = Work(16, length, packed.tokens, 0, 0, length)
    one = resolve(profile.model_dump(), {"method.kind": "two-point", "batch.probes_per_forward": 1})
    plan = planned(one, body, work, device="cpu")
    needs = zeroth_order_needs(one, body, trained_by(profile, body), work, plan, device="cpu")
    assert needs["activations"] + needs["expanded weight"] == pytest.approx(measured, rel=0.25)
    assert layer_bytes(body, dtype.itemsize, packed.tokens) <= needs["activations"]


def allocated(base: Base, packed: Any) -> int:
    """Bytes alive at the highest point of a forward, by torch's own records."""

    def forward() -> None:
        with torch.inference_mode():
            base.hidden(packed)

    forward()
    with profiler(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        forward()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = highest = 0
    for event in sorted(events, key=lambda event: int(event.start_ns())):
        alive += event.nbytes()
        highest = max(highest, alive)
    return highest
