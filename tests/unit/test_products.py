"""The two products of a frozen layer agree for every shape, also for those that a kernel cannot take."""

import pytest
import torch

from steerzo_edge.model.quantization import STORAGES


@pytest.mark.parametrize("width", [128, 176, 100])
@pytest.mark.parametrize("depth", [128, 96, 100])
@pytest.mark.parametrize("bias", [True, False])
def test_both_products_agree(width: int, depth: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(width, depth, generator=generator) / depth**0.5
    added = torch.randn(width, generator=generator) if bias else None
    storage = STORAGES["nf4"]
    frozen = storage.linear(storage.layer(weight, added, torch.bfloat16))
    x = torch.randn(3, depth, generator=generator).bfloat16()
    for _ in range(2):  # the first call packs
        torch.testing.assert_close(
            frozen.decode_matmul(x).float(), frozen.batch_matmul(x).float(), rtol=0.02, atol=0.05
        )
