"""Measures the speed of a device without a base: one product of the base's largest shape, in its quantization.

Attention, norms and activations are left out, so seconds computed from it are a lower bound; `measure.py` measures
the speed with a loaded base.
"""

import time
from collections.abc import Callable

import bitsandbytes as bnb
import torch
from torch import nn

from steerzo_edge.estimate.anatomy import Anatomy
from steerzo_edge.estimate.effort import Speed
from steerzo_edge.estimate.measure import number_seconds, shortest
from steerzo_edge.model.quantization import FrozenLinear, Quantization

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
    layer = FrozenLinear(_layer(largest.inputs, largest.outputs, quantization, dtype, device))

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


def _layer(inputs: int, outputs: int, kind: Quantization, dtype: torch.dtype, device: torch.device) -> nn.Module:
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    layer: nn.Module
    if kind == "none":
        layer = nn.Linear(inputs, outputs, bias=False, dtype=dtype, device="meta")
        layer.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    elif kind == "int8":
        layer = bnb.nn.Linear8bitLt(inputs, outputs, bias=False, has_fp16_weights=False)
        layer.weight = bnb.nn.Int8Params(weight.half(), requires_grad=False, has_fp16_weights=False)
    else:
        layer = bnb.nn.Linear4bit(inputs, outputs, bias=False, compute_dtype=dtype, quant_type=kind)
        layer.weight = bnb.nn.Params4bit(weight.to(dtype), requires_grad=False, quant_type=kind)
    return layer.to(device).requires_grad_(False).eval()
