"""The speed of a device with a base that is loaded: one decoder layer, twice, and one probe's numbers.

cost: a few milliseconds on the bundled base; about a second where a layer has 100 million weights on two cores
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

# Rows of so many tokens: few, where what a layer costs anyway shows; and as many as keep products busy.
ROW = 32
FEW, MANY = 1, 32
NUMBERS = 1 << 20


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of a base that is loaded.

    Args:
        body: Its sizes.
        speed: Of the device with it.
    """

    body: Anatomy
    speed: Speed


def survey(base: Base) -> Survey:
    """Looks at a base. On the thread that owns the model, and while nobody else makes tensors.

    Args:
        base: The frozen model.

    Note:
        `transformers` sets torch's default type, which all threads share, while it builds a model.
    """
    body = anatomy(base.model.config)
    return Survey(body, measured_speed(base, body))


def measured_speed(base: Base, body: Anatomy, clock: Callable[[], float] = time.perf_counter) -> Speed:
    """Runs the lowest layer on few and on many tokens. On the thread that owns the model.

    Args:
        base: The frozen model.
        body: Its sizes.
        clock: Seconds.
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
    """How long one number of a probe takes: drawn, added, cast.

    Args:
        device: Where.
        dtype: The compute type.
        clock: Seconds.
    """
    noise = Noise(NUMBERS, device, cache_bytes=0)
    start, direction = noise.zeros(0), Direction.seeded(0)
    return shortest(lambda: direction.added_to(start, 0.1, noise, 0).to(dtype), device, clock) / NUMBERS


def shortest(call: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Seconds of the shorter of two calls, after one that is not counted.

    Args:
        call: What is timed.
        device: Which is waited for.
        clock: Seconds.
    """
    taken = []
    for _ in range(3):
        began = clock()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(clock() - began)
    return min(taken[1:])
