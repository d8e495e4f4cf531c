"""How a token is chosen, against plain formulas; alone, and in a batch with others."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.grammar import Form
from steerzo_edge.decoding.sampling import Chooser, Sampling
from steerzo_edge.model.base import Base
from tests.conftest import Loader

PROMPT = (100, 101, 102, 103)
SAMPLINGS = (
    Sampling(12),
    Sampling(12, frequency_penalty=1.5),
    Sampling(12, presence_penalty=2.0),
    Sampling(12, frequency_penalty=-0.5, presence_penalty=-1.0),
    Sampling(12, logit_bias=((70, 5.0), (71, -100.0), (72, 100.0))),
    Sampling(12, temperature=0.8, min_p=0.2, seed=1),
    Sampling(12, temperature=1.2, top_k=5, frequency_penalty=0.7, seed=2),
    Sampling(12, temperature=1.0, top_p=0.5, min_p=0.1, top_k=20, logit_bias=((80, 3.0),), seed=3, logprobs=2),
    Sampling(12, form=Form("regex", "[a-f]{30}")),
    Sampling(12, temperature=1.0, form=Form("regex", "[a-f]{30}"), presence_penalty=1.0, seed=4),
)


@pytest.fixture
def base(tiny: Loader) -> Base:
    return tiny("none", torch.float32)


def answered(base: Base, samplings: tuple[Sampling, ...]) -> list[tuple[int, ...]]:
    """The tokens of the answers to one prompt."""
    decoder = Decoder(base)
    tickets = {decoder.add(Request(PROMPT, sampling)): number for number, sampling in enumerate(samplings)}
    rows = {row.ticket: row for row in decoder._active()}
    while len(decoder):
        decoder.step()
    return [tuple(rows[ticket].answer.tokens) for ticket in sorted(tickets)]


def distribution(logits: Tensor, settings: Sampling, answer: tuple[int, ...]) -> Tensor:
    """Probabilities of the next token, as the module's table defines them; (V,) float64."""
    scores = logits.double()
    for token, bias in settings.logit_bias:
        scores[token] += bias
    for token, count in Counter(answer).items():
        scores[token] -= settings.presence_penalty + settings.frequency_penalty * count
    if settings.temperature == 0:
        return torch.nn.functional.one_hot(scores.argmax(), len(scores)).double()
    scores /= settings.temperature
    if settings.top_k:
        scores[scores < scores.sort(descending=True).values[settings.top_k - 1]] = -torch.inf
    if settings.top_p < 1:
        ordered, places = scores.softmax(-1).sort(descending=True)
        before = ordered.cumsum(-1) - ordered
        scores[places[before >= settings.top_p]] = -torch.inf
    if settings.min_p:
        shares = scores.softmax(-1)
        scores[shares < settings.min_p * shares.max()] = -torch.inf
    return scores.softmax(-1)


@pytest.mark.parametrize("settings", SAMPLINGS[:8], ids=range(8))
def test_tokens_come_from_the_distribution_of_the_definitions(base: Base, settings: Sampling) -> None:
    (answer,) = answered(base, (settings,))
    with torch.inference_mode():
        logits = base.model(input_ids=torch.tensor([PROMPT + answer])).logits[0].float()
    for place, token in enumerate(answer):
        shares = distribution(logits[len(PROMPT) + place - 1].clone(), settings, answer[:place])
        assert shares[token] > 0
        if settings.temperature == 0:
            assert shares[token] == 1


@pytest.mark.parametrize(
    "settings",
    [
        Sampling(temperature=0.7, min_p=0.15),
        Sampling(temperature=1.5, top_k=4, min_p=0.3),
        Sampling(temperature=1.0, frequency_penalty=1.0, presence_penalty=0.5),
        Sampling(temperature=1.0, logit_bias=((3, 2.0), (1, -100.0))),
        Sampling(temperature=0.9, top_p=0.8, min_p=0.05, frequency_penalty=-1.0),
    ],
    ids=lambda settings: f"{settings.temperature}",
)
def test_draws_have_the_frequencies_of_the_definitions(settings: Sampling) -> None:
    logits = torch.tensor([2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -3.0], dtype=torch.float32)
    answer = (0, 2, 2)
    draws = 6000
    chooser = Chooser(settings, torch.device("cpu"))
    chooser.weighed(logits[None])
    for token in answer:
        chooser.taken(token)
    counts = torch.zeros(len(logits), dtype=torch.float64)
    for _ in range(draws):
        counts[int(chooser.weighed(logits[None]).argmax())] += 1
        chooser._noise = None  # another draw at the same place
    expected = distribution(logits.clone(), settings, answer)
    assert counts[expected == 0].sum() == 0
    assert (counts / draws - expected).abs().max() < 0.03  # more than four standard deviations of a share


def test_a_row_is_answered_in_a_batch_as_alone(base: Base) -> None:
    together = answered(base, SAMPLINGS)
    assert together == [answered(base, (one,))[0] for one in SAMPLINGS]
    assert len(set(together)) >= 8


def test_neutral_values_change_nothing(base: Base) -> None:
    for temperature in (0.0, 1.0):
        plain, neutral = answered(
            base,
            (
                Sampling(12, temperature, seed=3),
                Sampling(12, temperature, seed=3, min_p=0.0, frequency_penalty=0.0, logit_bias=((5, 0.0),)),
            ),
        )
        assert plain == neutral
    assert Chooser(Sampling(frequency_penalty=0.0), base.device).is_plain
    assert not Chooser(Sampling(frequency_penalty=0.1), base.device).is_plain


def penalised(weighed: Callable[[Tensor], Tensor], logits: Tensor) -> list[float]:
    found: list[float] = weighed(logits)[0].tolist()
    return found


def test_penalties_count_each_token_of_the_answer() -> None:
    chooser = Chooser(Sampling(presence_penalty=1.0, frequency_penalty=0.25), torch.device("cpu"))
    logits = torch.zeros(1, 3, dtype=torch.float32)
    assert penalised(chooser.weighed, logits) == [0, 0, 0]
    assert penalised(chooser.weighed, logits) == [0, 0, 0]  # asking again changes nothing
    chooser.taken(1)
    assert penalised(chooser.weighed, logits) == [0, -1.25, 0]
    chooser.taken(1)
    chooser.taken(2)
    assert penalised(chooser.weighed, logits) == [0, -1.5, -1.25]
