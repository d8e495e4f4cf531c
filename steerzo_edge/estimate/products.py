"""Measures the speed of a device without a base: one product of the base's largest shape, in its quantization.

Attention, norms and activations are left out, so seconds computed from it are a lower bound; `measure.py` measures
the speed with a loaded base.
"""

import time
from collections.abc import Callable

import torch

from steerzo_edge.estimate.anatomy import Anatomy
from steerzo_edge.estimate.effort import Speed
from steerzo_edge.estimate.measure import number_seconds, shortest
from steerzo_edge.model.quantization import STORAGES, Quantization

FEW, MANY = 32, 1024


def product_speed(
    body: Anatomy,
    quantization: Quantization,
    dtype: torch.dtype,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Times products of few and of many tokens with a random weight.

    Args:
        body: Sizes of the base; the weight has the shape of its largest linear layer.
        quantization: How the weight is stored.
        dtype: The compute type.
        device: Where it is measured.
        clock: Returns seconds.
    """
    largest = max(body.projections, key=lambda projection: projection.inputs * projection.outputs)
    weight = torch.randn(
        largest.outputs, largest.inputs, generator=torch.Generator().manual_seed(0), dtype=torch.float32
    )
    storage = STORAGES[quantization]
    if not storage.can_quantize:
        storage = STORAGES["nf4"]  # GPTQ layers cannot be made here; nf4 weights take about as many bytes
    layer = storage.linear(storage.layer(weight.to(device), None, dtype))

    def product(tokens: int) -> Callable[[], object]:
        x = torch.ones(tokens, largest.inputs, dtype=dtype, device=device)

        def run() -> object:
            with torch.inference_mode():
                return layer.batch_matmul(x)

        return run

    few, many = (shortest(product(tokens), device, clock) for tokens in (FEW, MANY))
    size = largest.inputs * largest.outputs
    operation = max(many - few, 0.1 * many) / (2 * (MANY - FEW) * size)
    rest = max(0.0, few - operation * 2 * FEW * size)
    weights = sum(projection.inputs * projection.outputs for projection in body.projections) / body.layers
    return Speed(rest * weights / size, operation, number_seconds(device, dtype, clock))
