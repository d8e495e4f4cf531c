"""Batched decoding: every row as if it were alone, whichever rows join and leave."""

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from steerzo_edge.decoding.cache import Chunk
from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.forward import CachedForward
from steerzo_edge.decoding.generate import Generation, encode_prompt
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.model.base import Base
from steerzo_edge.model.layers import select
from steerzo_edge.model.lora import Lora
from steerzo_edge.model.patches import Patches
from steerzo_edge.model.subset import Copies
from steerzo_edge.records import StepRecord
from steerzo_edge.run import Run
from steerzo_edge.settings.profile import resolve
from tests.conftest import Loader, labelled_rows

PROFILE = {
    "subset": {"kind": "lora", "rank": 2},
    "method": {"kind": "all-losses", "pool": 4, "epsilon": 0.5},
    "rule": {"kind": "sgd", "learning_rate": 0.5},
    "batch": {"examples": 4, "max_tokens": 64},
    "steps": 10,
    "evaluate": {"every": 3, "holdout": 0.25},
}
TEXTS = ("Once upon a time", "good =>", "The cat sat on the mat, and then it " * 3, "a", "Hello there")


def adapter(base: Base, rank: int, targets: str | tuple[str, ...], last: int | None, seed: int) -> Patches:
    """A random LoRA that changes answers."""
    names = select(list(base.bank.layers), targets, last)
    layers = {name: base.bank.layers[name] for name in names}
    # alpha / rank is no power of two: folding it into B rounds, and must do so for one row as for many.
    lora = Lora(layers, rank=rank, alpha=1.7 * rank, freeze_a=True, seed=seed, compute_dtype=base.compute_dtype)
    lora.parameters.add_(torch.randn(lora.parameters.shape, generator=torch.Generator().manual_seed(seed)) / 20)
    return Copies(lora, 1).hold()


def adapters(base: Base) -> list[Patches | None]:
    return [
        None,
        adapter(base, 2, "all-linear", None, 1),
        adapter(base, 8, ("q_proj", "v_proj"), None, 2),
        adapter(base, 3, ("down_proj",), 2, 3),
        adapter(base, 4, "all-linear", 1, 4),
        adapter(base, 8, "all-linear", None, 5),
    ]


def mixed(base: Base, count: int) -> list[Request]:
    """Requests that differ in adapter, prompt, length and sampling."""
    kinds = adapters(base)
    found = []
    for number in range(count):
        sampled = number % 3 == 2
        sampling = Sampling(
            max_new_tokens=1 + number * 7 % 19,
            temperature=0.9 if sampled else 0.0,
            top_p=0.95 if number % 2 else 1.0,
            top_k=40 if number % 4 else 0,
            stop=("e", "he c") if number % 5 == 4 else (),
            seed=number,
        )
        tokens = encode_prompt(base, TEXTS[number % len(TEXTS)] + "x" * (number % 4), sampling.max_new_tokens)
        found.append(Request(tokens, sampling, kinds[number % len(kinds)]))
    return found


def together(base: Base, requests: list[Request], **settings: Any) -> list[tuple[str, Generation]]:
    """Texts put together from pieces, and whole answers; three start, and one more joins at each step."""
    decoder = Decoder(base, **settings)
    waiting = list(requests)
    tickets = [decoder.add(waiting.pop(0)) for _ in range(min(3, len(waiting)))]
    texts: dict[int, str] = {}
    made: dict[int, Generation] = {}
    while len(decoder) or waiting:
        for piece in decoder.step():
            assert piece.ticket not in made
            texts[piece.ticket] = texts.get(piece.ticket, "") + piece.text
            if piece.made is not None:
                made[piece.ticket] = piece.made
        if waiting:
            tickets.append(decoder.add(waiting.pop(0)))
    assert decoder.held_bytes == 0
    return [(texts[ticket], made[ticket]) for ticket in tickets]


@pytest.fixture(scope="module", params=["tiny float32", "bundled nf4"])
def base(request: pytest.FixtureRequest) -> Iterator[Base]:
    if request.param == "tiny float32":
        yield request.getfixturevalue("tiny")("none", torch.float32)
    else:
        yield request.getfixturevalue("bundled")


def test_a_row_of_a_mixed_batch_answers_as_when_alone(base: Base) -> None:
    requests = mixed(base, 32)
    answers = together(base, requests, prefill_tokens=16)
    for request, (text, made) in zip(requests, answers, strict=True):
        expected, whole = together(base, [request], prefill_tokens=16)[0]
        assert (text, made) == (expected, whole)
        assert text == made.text
        assert made.prompt_tokens == len(request.tokens)
    # What is compared must differ: adapters and seeds have their say.
    assert len({made.text for _, made in answers}) > 20
    assert {made.finish_reason for _, made in answers} >= {"stop", "length"}


def test_a_row_equals_transformers(tiny: Loader) -> None:
    """In float32: with bf16, chunks and other kernels round differently, and scores are often nearly equal."""
    base = tiny("none", torch.float32)
    requests = [Request(encode_prompt(base, text, 12), Sampling(12)) for text in TEXTS]
    for request, (text, made) in zip(requests, together(base, requests, prefill_tokens=7), strict=True):
        ids = torch.tensor([request.tokens])
        with torch.inference_mode():
            found = base.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=12,
                do_sample=False,
                pad_token_id=base.tokenizer.pad_token_id,
            )
        assert text == base.tokenizer.decode(found[0, len(request.tokens) :], skip_special_tokens=True)
        assert made.completion_tokens <= 12


def test_a_running_job_never_shows_a_probe(tiny: Loader, tmp_path: Path) -> None:
    """Rows keep the version they began with, while steps and their probes run between any two tokens."""
    base = tiny("nf4")
    prompt = encode_prompt(base, "good =>", 12)
    bare = together(base, [Request(prompt, Sampling(12))])
    run = Run(tmp_path, base, resolve(PROFILE), labelled_rows(), seed=1)
    decoder = Decoder(base)
    kept: dict[int, tuple[int, Tensor]] = {}
    made: dict[int, Generation] = {}
    subset = run._parts.subset
    for record in run.records():
        for piece in decoder.step():
            if piece.made is not None:
                made[piece.ticket] = piece.made
        if isinstance(record, StepRecord):
            ticket = decoder.add(Request(prompt, Sampling(12), run.patches()))
            kept[ticket] = record.step, subset.parameters.clone()
            decoder.add(Request(prompt, Sampling(12)))
    while len(decoder):
        made |= {piece.ticket: piece.made for piece in decoder.step() if piece.made is not None}
    run.close()
    for ticket, answer in made.items():
        if ticket not in kept:
            assert answer == bare[0][1]
            continue
        _, parameters = kept[ticket]
        version = subset.patches(parameters.to(base.compute_dtype).unsqueeze(0))
        assert together(base, [Request(prompt, Sampling(12), version)])[0][1] == answer
    # The versions differ in what they answer: another one, or a probe's, would have been seen.
    assert len({made[ticket].text for ticket in kept}) > 3
    assert not base.bank.active


def test_a_request_that_is_ended_leaves_the_others_as_they_are(base: Base) -> None:
    requests = mixed(base, 6)
    expected = [together(base, [request])[0] for request in requests]
    decoder = Decoder(base, prefill_tokens=16)
    endless = Request(encode_prompt(base, "The", 200), Sampling(200, temperature=1.0, seed=1))
    unread = Request(encode_prompt(base, "The cat " * 16, 10), Sampling(10))
    first = decoder.add(endless)
    tickets = [decoder.add(request) for request in requests]
    made: dict[int, Generation] = {}
    for _ in range(9):
        made |= {piece.ticket: piece.made for piece in decoder.step() if piece.made is not None}
    second = decoder.add(unread)
    made |= {piece.ticket: piece.made for piece in decoder.step() if piece.made is not None}
    if first not in made:
        assert decoder.end(first, "cancelled").made is not None
    last = decoder.end(second, "cancelled")
    assert last.made is not None
    assert (last.made.finish_reason, last.made.completion_tokens) == ("cancelled", 0)
    while len(decoder):
        made |= {piece.ticket: piece.made for piece in decoder.step() if piece.made is not None}
    assert [made[ticket] for ticket in tickets] == [whole for _, whole in expected]


def test_a_finished_request_leaves_nothing_in_memory(tiny: Loader) -> None:
    """Tensors are counted after few and after many requests."""
    base = tiny("none", torch.float32)
    kinds = adapters(base)
    decoder = Decoder(base)

    def answer(count: int) -> int:
        for number in range(count):
            decoder.add(Request((7, 8, 9), Sampling(3, seed=number), kinds[number % len(kinds)]))
            for _ in range(2):
                decoder.step()
            if number % 7 == 0:
                decoder.end(decoder.add(Request((7,) * 40, Sampling(9))), "cancelled")
        while len(decoder):
            decoder.step()
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    before = answer(20)
    assert answer(300) <= before
    assert decoder.held_bytes == 0


def test_requests_that_begin_alike_are_read_once(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each says what it would have said alone."""
    tokens = encode_prompt(base, TEXTS[2], 20)
    kinds = adapters(base)[1:3]
    requests = [Request(tokens, Sampling(6 + seed, 1.0, seed=seed), kinds[seed % 2]) for seed in range(8)]
    expected = [together(base, [request], prefill_tokens=16)[0][1] for request in requests]
    read: list[int] = []
    into = CachedForward.chunks

    def counted(model: CachedForward, chunks: Sequence[Chunk]) -> Tensor:
        read.extend(len(chunk.tokens) for chunk in chunks)
        return into(model, chunks)

    monkeypatch.setattr(CachedForward, "chunks", counted)
    decoder = Decoder(base, prefill_tokens=16)
    tickets = [decoder.add(request) for request in requests[:6]]
    decoder.step()
    tickets += [decoder.add(request) for request in requests[6:]]  # a part has been read: they need no more either
    assert decoder.end(decoder.add(requests[0]), "cancelled").tokens == 0
    made: dict[int, Generation] = {}
    while len(decoder):
        made |= {piece.ticket: piece.made for piece in decoder.step() if piece.made is not None}
    assert [made[ticket] for ticket in tickets] == expected
    assert len({answer.text for answer in expected}) > 4
    assert sum(read) == len(kinds) * len(tokens)
    assert len(tokens) > 16
