"""The two products of a frozen layer agree for every shape, also for those that a kernel cannot take."""

import bitsandbytes as bnb
import pytest
import torch

from steerzo_edge.model.quantization import FrozenLinear


@pytest.mark.parametrize("width", [128, 176, 100])
@pytest.mark.parametrize("depth", [128, 96, 100])
@pytest.mark.parametrize("bias", [True, False])
def test_few_and_many_agree(width: int, depth: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = bnb.nn.Linear4bit(depth, width, bias=bias, compute_dtype=torch.bfloat16, quant_type="nf4")
    weight = torch.randn(width, depth, generator=generator) / depth**0.5
    layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", module=layer).to("cpu")
    layer.requires_grad_(False)
    if bias:
        layer.bias.data.normal_(generator=generator)
    frozen = FrozenLinear(layer)
    x = torch.randn(3, depth, generator=generator).bfloat16()
    for _ in range(2):  # the first call packs
        torch.testing.assert_close(
            frozen.decode_matmul(x).float(), frozen.batch_matmul(x).float(), rtol=0.02, atol=0.05
        )
