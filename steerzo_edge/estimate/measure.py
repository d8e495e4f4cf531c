"""Measures the speed of a device with a loaded base: one decoder layer on few and many tokens, and one probe.

Cost: a few milliseconds on the bundled base; about a second for a layer of 100 million weights on two cores.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from steerzo_edge.data.packing import Fork, pack
from steerzo_edge.estimate.anatomy import Anatomy, anatomy
from steerzo_edge.estimate.effort import Speed, layer_operations
from steerzo_edge.model.base import Base
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.noise import Noise

# Tokens of a row. One row shows the fixed cost of a layer; 32 rows are enough for the products to dominate.
ROW = 32
FEW, MANY = 1, 32
NUMBERS = 1 << 20


@dataclass(frozen=True, slots=True)
class Survey:
    """Sizes and speed of a loaded base.

    Args:
        body: Its sizes.
        speed: Of the device with this base.
    """

    body: Anatomy
    speed: Speed


def survey(base: Base) -> Survey:
    """Measures a base. Call it on the thread that owns the model, while no other thread creates tensors.

    Args:
        base: The frozen model.

    Note:
        It builds a model, and `transformers` sets torch's default type, which all threads share, while it does.
    """
    body = anatomy(base.model.config)
    return Survey(body, measured_speed(base, body))


def measured_speed(base: Base, body: Anatomy, clock: Callable[[], float] = time.perf_counter) -> Speed:
    """Times the lowest layer on few and on many tokens. Call it on the thread that owns the model.

    Args:
        base: The frozen model.
        body: Its sizes.
        clock: Returns seconds.
    """
    row = min(ROW, base.context_length)

    def layer(rows: int) -> Callable[[], object]:
        ids = [token % body.vocabulary for token in range(row)]
        packed = pack([Fork(tuple(ids))] * rows, base.device)

        def run() -> object:
            with torch.inference_mode(), base.bank.route({}):
                return base.hidden_at(1, packed) if body.layers > 1 else base.hidden(packed)

        return run

    few, many = (shortest(layer(rows), base.device, clock) for rows in (FEW, MANY))
    slope = max(many - few, 0.1 * many) / layer_operations(body, 0, (MANY - FEW) * row, row)
    rest = max(0.0, few - slope * layer_operations(body, 0, FEW * row, row))
    return Speed(layer=rest, operation=slope, number=number_seconds(base.device, base.compute_dtype, clock))


def number_seconds(device: torch.device, dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """Seconds that one number of a probe takes: drawn, added, cast.

    Args:
        device: Where it is measured.
        dtype: The compute type.
        clock: Returns seconds.
    """
    noise = Noise(NUMBERS, device, cache_bytes=0)
    start, direction = noise.zeros(0), Direction.seeded(0)
    return shortest(lambda: direction.added_to(start, 0.1, noise, 0).to(dtype), device, clock) / NUMBERS


def shortest(call: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Seconds of the shorter of two calls, after a first call that is not counted.

    Args:
        call: The function to time.
        device: Its pending work is waited for.
        clock: Returns seconds.
    """
    taken = []
    for _ in range(3):
        began = clock()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(clock() - began)
    return min(taken[1:])
