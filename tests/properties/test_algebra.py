"""Direction algebra, order-free noise, batches."""

from math import sqrt
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from steerzo_edge.data.batches import batch_rows
from steerzo_edge.zo.direction import Direction, mean
from steerzo_edge.zo.noise import SEGMENT, Noise
from steerzo_edge.zo.schedule import Schedule

weights = st.floats(-100, 100, allow_nan=False).filter(lambda w: w == 0 or abs(w) > 1e-3)
directions = st.dictionaries(st.integers(0, 50), weights, max_size=6).map(Direction.weighted)


def dense(direction: Direction, size: int = 40) -> torch.Tensor:
    return direction.materialize(Noise(size), 0).double()


@given(directions, directions, weights)
def test_algebra_is_that_of_vectors(a: Direction, b: Direction, factor: float) -> None:
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-3}
    torch.testing.assert_close(dense(a + b), dense(a) + dense(b), **close)
    torch.testing.assert_close(dense(a - b), dense(a) - dense(b), **close)
    torch.testing.assert_close(dense(factor * a), factor * dense(a), rtol=1e-4, atol=2e-2)
    torch.testing.assert_close(dense(mean([a, b])), (dense(a) + dense(b)) / 2, **close)
    assert len({seed for seed, _ in (a + b).terms}) == len((a + b).terms)


@given(directions)
def test_a_normalized_direction_has_scale_one(a: Direction) -> None:
    assert a.scale == 0 or abs(a.normalized().scale - 1) < 1e-9


def test_scale_is_the_expected_norm() -> None:
    direction = Direction(((1, 0.3), (2, -1.2), (3, 2.0)))
    size = 200_000
    norm = float(direction.materialize(Noise(size), 0).norm())
    assert abs(norm / sqrt(size) / direction.scale - 1) < 5 / sqrt(size) * 3


@given(st.permutations(list(range(6))), st.integers(0, 2))
def test_noise_does_not_depend_on_the_order_or_the_cache(order: list[int], entries: int) -> None:
    size = 100
    fresh = {seed: Noise(size).draw(seed, 0) for seed in range(6)}
    noise = Noise(size, cache_bytes=entries * 4 * size)
    for seed in [*order, *order]:
        assert torch.equal(noise.draw(seed, 0), fresh[seed])


def test_segments_are_independent_and_normal() -> None:
    size = SEGMENT + 1000
    noise = Noise(size, cache_bytes=0)
    assert [s.stop - s.start for s in noise.segments] == [SEGMENT, 1000]
    first, second = noise.draw(5, 0), noise.draw(5, 1)
    assert abs(float(first.mean())) < 5e-3
    assert abs(float(first.std()) - 1) < 5e-3
    assert not torch.equal(first[:1000], second)
    assert abs(float(torch.corrcoef(torch.stack([first[:1000], second]))[0, 1])) < 0.15
    assert abs(float(torch.corrcoef(torch.stack([first, noise.draw(6, 0)]))[0, 1])) < 5e-3


@given(st.integers(0, 2**40), st.integers(1, 30), st.integers(1, 70))
def test_batches_walk_through_every_epoch_once(seed: int, rows: int, size: int) -> None:
    steps = -(-3 * rows // size)
    stream = [row for step in range(steps) for row in batch_rows(seed, step, rows, size)]
    assert all(len(batch_rows(seed, step, rows, size)) == size for step in range(steps))
    for epoch in range(3):
        assert sorted(stream[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


@given(st.sampled_from(["constant", "linear", "cosine"]), st.integers(1, 50), st.integers(0, 9), st.floats(0, 1))
def test_schedules_rise_then_fall(kind: str, steps: int, warmup: int, floor: float) -> None:
    schedule = Schedule(steps, kind, warmup, floor)  # type: ignore[arg-type]
    rates = [schedule(step) for step in range(steps)]
    assert all(0 <= rate <= 1 + 1e-12 for rate in rates)
    risen = rates[:warmup]
    assert risen == sorted(risen)
    fallen = rates[warmup:]
    assert fallen == sorted(fallen, reverse=True)
    assert not fallen or fallen[0] == 1
