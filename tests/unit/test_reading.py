"""Prompts that are read in one forward: each as if it were read alone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from steerzo_edge.decoding.cache import Chunk, RowCache
from steerzo_edge.decoding.cache_pool import CachePool
from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.forward import CachedForward
from steerzo_edge.decoding.reading import Reading, next_of
from steerzo_edge.decoding.row import Row
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import LoraXsPatch, Patches, WeightPatch
from tests.conftest import Loader
from tests.unit.test_decoding import adapter, adapters
from tests.unit.test_failing_steps import finished


def drawn(base: Base, length: int, seed: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(len(base.tokenizer), (length,), generator=generator).tolist())


def reading(base: Base, length: int, kind: Patches | None, seed: int = 0) -> Reading:
    return Reading(Row(seed, Request(drawn(base, length, seed), Sampling(3), kind), base))


def whole_layers(base: Base) -> Patches:
    """A core on one layer, a weight of its own on another: patches that do not add in place."""
    generator = torch.Generator().manual_seed(3)
    names = list(base.bank.layers)
    one, other = base.bank.layers[names[0]], base.bank.layers[names[-1]]

    def noise(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator) / 8).to(base.compute_dtype)

    return {
        names[0]: LoraXsPatch(noise(4, one.in_features), noise(1, 4, 4), noise(one.out_features, 4), 0.7),
        names[-1]: WeightPatch(noise(1, other.out_features, other.in_features), other.bias),
    }


def read(base: Base, readings: list[Reading], most: int) -> None:
    decoder = Decoder(base, prefill_tokens=most)
    with torch.inference_mode():
        while any(one.rest for one in readings):
            decoder._read(readings)


def same(one: Reading, other: Reading, *, exactly: bool) -> None:
    assert one.cache.length == other.cache.length == len(one.tokens)
    assert one.scores is not None
    assert other.scores is not None
    pairs = [(one.scores, other.scores)]
    for ours, theirs in zip(one.cache.layers, other.cache.layers, strict=True):
        pairs += [(a[:, : len(one.tokens)], b[:, : len(one.tokens)]) for a, b in zip(ours, theirs, strict=True)]
    for a, b in pairs:
        if exactly:
            assert torch.equal(a, b)
        else:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)  # float32 sums in another order


@pytest.mark.long
@pytest.mark.parametrize("most", [4096, 16], ids=["whole", "in chunks"])
def test_bit_for_bit_in_bf16(bundled: Base, most: int) -> None:
    """Every length from 1 to 64, every kind of adapter, in three mixtures."""
    kinds = [*adapters(bundled), whole_layers(bundled)]
    for first in range(3):
        lengths = range(1 + first, 65, 3)
        shuffled = [lengths[place * 5 % len(lengths)] for place in range(len(lengths))]
        made = [
            [reading(bundled, length, kinds[(length + first) % len(kinds)], length) for length in shuffled]
            for _ in range(2)
        ]
        read(bundled, made[0], most)
        for one in made[1]:
            read(bundled, [one], most)
        assert sum(shuffled) > 600
        for together, alone in zip(*made, strict=True):
            same(together, alone, exactly=True)


def test_in_float32_but_for_the_last_bits(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    kinds = [*adapters(base), whole_layers(base)]
    made = [[reading(base, 3 + 5 * n, kinds[n % len(kinds)], n) for n in range(10)] for _ in range(2)]
    read(base, made[0], 16)
    for one in made[1]:
        read(base, [one], 16)
    for together, alone in zip(*made, strict=True):
        same(together, alone, exactly=False)


def test_numbers_that_are_not_finite_stay_in_their_row(bundled: Base) -> None:
    broken = {name: adapter(bundled, 2, "all-linear", None, 1)[name] for name in bundled.bank.layers}
    for patch in broken.values():
        patch.b.fill_(torch.inf)  # type: ignore[attr-defined]
    good = adapter(bundled, 2, "all-linear", None, 2)
    made = [[reading(bundled, 9, kind, n) for n, kind in enumerate((good, broken, None))] for _ in range(2)]
    read(bundled, made[0], 64)
    for place in (0, 2):
        read(bundled, [made[1][place]], 64)
        same(made[0][place], made[1][place], exactly=True)
    assert made[0][1].scores is not None
    assert not made[0][1].scores.isfinite().any()


def test_prompts_that_come_together_are_read_in_one_forward(bundled: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as fit into `prefill_tokens`, in turn; a long one does not delay those after it."""
    forwards: list[list[int]] = []
    into = CachedForward.chunks

    def noted(model: CachedForward, chunks: list[Chunk]) -> Tensor:
        forwards.append([len(chunk.tokens) for chunk in chunks])
        return into(model, chunks)

    monkeypatch.setattr(CachedForward, "chunks", noted)
    decoder = Decoder(bundled, prefill_tokens=16)
    for length in (5, 4, 40, 6, 1, 3):
        decoder.add(Request(drawn(bundled, length, length), Sampling(2)))
    finished(decoder)
    assert forwards == [[5, 4, 6, 1], [16], [3], [16], [8]]


def test_a_chunk_is_never_cut_to_fit(bundled: Base) -> None:
    readings = [reading(bundled, length, None, length) for length in (10, 7, 100, 6)]
    assert next_of(readings, 16) == [readings[0], readings[3]]
    assert next_of(readings[2:], 16) == [readings[2]]
    readings[0].cache = RowCache()
    readings[0].cache.length = 10  # read, but there was no room among the rows
    assert next_of(readings, 16) == [readings[0], readings[1], readings[3]]


@pytest.mark.parametrize("error", [RuntimeError("a bit flipped"), torch.OutOfMemoryError("no")])
def test_a_forward_that_fails_is_done_one_at_a_time(
    bundled: Base, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    requests = [
        Request(drawn(bundled, 4 + 7 * n, n), Sampling(5, float(n % 2), seed=n), kind)
        for n, kind in enumerate(adapters(bundled))
    ]
    expected = []
    for request in requests:
        decoder = Decoder(bundled, prefill_tokens=16)
        ticket = decoder.add(request)
        expected.append(finished(decoder)[ticket].made)
    sizes: list[int] = []
    forward = CachedForward._run

    def failing(model: CachedForward, ids: Tensor, positions: Tensor, past: Any) -> Tensor:
        scores = forward(model, ids, positions, past)  # the caches are written to before it fails
        if not isinstance(past, CachePool):
            sizes.append(len(past))
            if len(past) > 1:
                raise error
        return scores

    monkeypatch.setattr(CachedForward, "_run", failing)
    decoder = Decoder(bundled, prefill_tokens=16)
    tickets = [decoder.add(request) for request in requests]
    last = finished(decoder)
    assert [last[ticket].made for ticket in tickets] == expected
    assert sizes[:3] == [2, 1, 1]
