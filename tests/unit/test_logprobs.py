"""Log-probabilities of an answer's tokens, against a plain log_softmax of the model's own forward."""

from collections.abc import Sequence

import pytest
import torch

from steerzo_edge.decoding.answer import Generation
from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.generate import encode_prompt, generate
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.decoding.spelling import Spelling
from steerzo_edge.model.base import Base
from tests.conftest import Loader

TEXTS = ("Once upon a time", "good =>", "a", "The cat sat on the mat")


@pytest.fixture
def base(tiny: Loader) -> Base:
    return tiny("none", torch.float32)


def answered(base: Base, requests: Sequence[Request]) -> list[tuple[Generation, str, list[int]]]:
    """Each answer, with its text and its tokens with log-probabilities put together from pieces."""
    decoder = Decoder(base)
    tickets = [decoder.add(request) for request in requests]
    texts, tokens = dict.fromkeys(tickets, ""), {ticket: list[int]() for ticket in tickets}
    made: dict[int, Generation] = {}
    while len(decoder):
        for piece in decoder.step():
            texts[piece.ticket] += piece.text
            tokens[piece.ticket] += [one.chosen.token for one in piece.logprobs]
            if piece.made is not None:
                made[piece.ticket] = piece.made
    return [(made[ticket], texts[ticket], tokens[ticket]) for ticket in tickets]


def test_log_probabilities_do_not_depend_on_the_sampling(base: Base) -> None:
    """Whatever the sampling does to it, and whichever other prompts are in the batch."""
    samplings = [
        Sampling(9, logprobs=3),
        Sampling(12, temperature=1.5, top_k=5, seed=3, logprobs=20),
        Sampling(7, temperature=0.5, top_p=0.5, seed=4),
        Sampling(10, temperature=2.0, seed=5, logprobs=0),
    ]
    requests = [
        Request(encode_prompt(base, text, 12), sampling) for text, sampling in zip(TEXTS, samplings, strict=True)
    ]
    found = answered(base, requests)
    for request, (made, text, streamed) in zip(requests, found, strict=True):
        wanted = request.sampling.logprobs
        assert text == made.text
        if wanted is None:
            assert made.logprobs == ()
            continue
        assert streamed == [one.chosen.token for one in made.logprobs]
        assert len(streamed) >= made.completion_tokens - 1
        with torch.inference_mode():
            logits = base.model(input_ids=torch.tensor([[*request.tokens, *streamed]])).logits[0].float()
        plain = logits.log_softmax(-1)[len(request.tokens) - 1 :]
        for one, expected in zip(made.logprobs, plain, strict=False):
            assert one.chosen.logprob == pytest.approx(float(expected[one.chosen.token]), abs=1e-4)
            values, ids = expected.topk(wanted)
            assert [other.logprob for other in one.likeliest] == pytest.approx(values.tolist(), abs=1e-4)
            assert len({other.token for other in one.likeliest} - set(ids.tolist())) <= 1  # a near tie may differ
    assert len(found[1][0].logprobs) > 5


def test_offsets_are_where_tokens_begin(bundled: Base) -> None:
    made = generate(bundled, "Once upon a time", sampling=Sampling(20, logprobs=1))
    spelling = Spelling(bundled.tokenizer)
    assert len(made.logprobs) == 20
    for one in made.logprobs:
        assert made.text[one.offset :].startswith(spelling.bytes(one.chosen.token).decode())
    assert b"".join(spelling.bytes(one.chosen.token) for one in made.logprobs).decode() == made.text


def test_a_stop_text_has_no_log_probabilities(bundled: Base) -> None:
    whole = generate(bundled, "Once upon a time", sampling=Sampling(20, logprobs=0))
    stop = whole.text[10:16]
    request = Request(encode_prompt(bundled, "Once upon a time", 20), Sampling(20, stop=(stop,), logprobs=0))
    ((made, text, streamed),) = answered(bundled, [request])
    assert (made.text, text) == (whole.text[: whole.text.index(stop)],) * 2
    expected = [one for one in whole.logprobs if one.offset < len(made.text)]
    assert list(made.logprobs) == expected
    assert streamed == [one.chosen.token for one in expected]
    assert 0 < len(expected) < made.completion_tokens


def test_asking_for_log_probabilities_does_not_change_the_answer(base: Base) -> None:
    for seed in range(4):
        plain = Sampling(12, temperature=1.0, seed=seed)
        told = Sampling(12, temperature=1.0, seed=seed, logprobs=5)
        assert generate(base, "good", sampling=plain).text == generate(base, "good", sampling=told).text
