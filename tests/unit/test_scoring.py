"""Log-probabilities of whole texts, against a plain log_softmax of the model's own forward; prompts meanwhile."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from server.device.prompts import PromptLimits, Prompts
from server.device.shares import Shares
from server.device.turns import Turns
from server.errors import PromptTimeoutError
from steerzo_edge.data.packing import Fork
from steerzo_edge.data.tokens import Tokens
from steerzo_edge.decoding.generate import TokenIds, encode_prompt, generate
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.decoding.scoring import Scored, ScoringRequest, parts_of, scored, shared_rows
from steerzo_edge.errors import BusyError, InputError
from steerzo_edge.model.bank import no_preemption
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import LoraPatch, Patches
from tests.conftest import Loader
from tests.unit.test_prompts import Clock, Listener

TEXTS: Sequence[Tokens] = (
    (9, 8, 7, 6, 5, 20, 21),
    (9, 8, 7, 6, 5, 30),
    (9, 8, 7, 6, 5),
    (40, 41),
    (9, 8, 7, 6, 5, 20, 21),
    (50,),
)


class Texts:
    """Texts that are scored with the bare base."""

    def __init__(self, texts: Sequence[Tokens] = TEXTS, patches: Patches | None = None) -> None:
        self.texts: Sequence[ScoringRequest] = [ScoringRequest(text, 2) for text in texts]
        self.has_left = False
        self.error: Exception | None = None
        self._patches = patches

    def adapter(self) -> Patches | None:
        if self.error is not None:
            raise self.error
        return self._patches


@pytest.fixture
def base(tiny: Loader) -> Base:
    return tiny("none", torch.float32)


def plain(base: Base, text: Tokens) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = base.model(input_ids=torch.tensor([text])).logits[0].float().log_softmax(-1)
    return found


def lora(base: Base) -> Patches:
    generator = torch.Generator().manual_seed(1)
    name, shape = next((n, m.weight.shape) for n, m in base.model.named_modules() if n.endswith("q_proj.base"))
    a, b = (
        torch.randn(size, generator=generator, dtype=torch.float32) for size in ((1, 2, shape[1]), (1, shape[0], 2))
    )
    return {name.removesuffix(".base"): LoraPatch(a, b, 1.0)}


def test_texts_that_begin_alike_become_one_row() -> None:
    long = tuple(range(100, 140))
    rows = shared_rows([(*long, 1, 2), (3, 4), (*long, 5), long, (*long, 1, 2)])
    assert [(sorted(row.texts), row.fork) for row in rows] == [
        ([1], Fork((3, 4))),
        ([0, 2, 3, 4], Fork(long, ((), (1, 2), (1, 2), (5,)))),
    ]
    # One shared token does not outweigh attention over two long texts.
    apart = shared_rows([(1, *range(10, 90)), (1, *range(200, 280))])
    assert [row.fork.branches for row in apart] == [(), ()]
    # Every text goes into one part, and a part has as many tokens as allowed.
    parts = parts_of(shared_rows([(n, n, n) for n in range(10)]), 7)
    assert [len(part) for part in parts] == [2] * 5
    assert sorted(text for part in parts for row in part for text in row.texts) == list(range(10))


@pytest.mark.parametrize("most", [3, 8, 1000])
def test_scores_are_the_models_own(base: Base, most: int) -> None:
    requests = [ScoringRequest(text, likeliest) for likeliest, text in enumerate(TEXTS)]
    found: dict[int, Scored] = {}
    for part in parts_of(shared_rows(TEXTS), most):
        found |= scored(base, requests, part)
    assert sorted(found) == list(range(len(TEXTS)))
    for index, request in enumerate(requests):
        expected = plain(base, request.tokens)
        assert [one.chosen.token for one in found[index].logprobs] == list(request.tokens[1:])
        for place, one in enumerate(found[index].logprobs):
            own = float(expected[place, one.chosen.token])
            assert one.chosen.logprob == pytest.approx(own, abs=1e-4)
            values = expected[place].topk(request.likeliest or 0).values.tolist()
            assert [other.logprob for other in one.likeliest] == pytest.approx(values, abs=1e-4)
            same = [other.logprob for other in one.likeliest if other.token == one.chosen.token]
            assert same in ([], [one.chosen.logprob])  # bit for bit: clients compare them


def test_a_vocabulary_in_blocks_gives_the_same_likeliest(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = torch.randn(5, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    tokens = torch.tensor([0, 3, 100, 200, 17])
    whole = base.head.likeliest(hidden, tokens, 7)
    rows = base.head.rows(hidden)
    monkeypatch.setattr(base.head, "block_bytes", 8 * 64 * 30)
    for one, other in zip(whole, base.head.likeliest(hidden, tokens, 7), strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(base.head.rows(hidden), rows)
    expected = rows.log_softmax(-1)
    torch.testing.assert_close(whole[0], expected.gather(1, tokens[:, None])[:, 0])
    assert whole[2].tolist() == expected.topk(7).indices.tolist()


def test_an_adapter_changes_the_scores(base: Base) -> None:
    requests = [ScoringRequest(TEXTS[0])]
    rows = shared_rows([TEXTS[0]])
    adapter = lora(base)
    bare, changed = (scored(base, requests, rows, patches)[0].logprobs for patches in (None, adapter))
    with torch.inference_mode(), base.bank.route(adapter):
        logits = base.model(input_ids=torch.tensor([TEXTS[0]])).logits[0].float().log_softmax(-1)
    for place, one in enumerate(changed):
        assert one.chosen.logprob == pytest.approx(float(logits[place, one.chosen.token]), abs=1e-4)
    assert bare != changed


def test_the_next_token_is_that_of_an_answer(base: Base) -> None:
    samplings = (Sampling(1), Sampling(1, temperature=1.0, seed=5), Sampling(1, temperature=1.0, seed=6))
    requests = [ScoringRequest(text, 1, samplings) for text in TEXTS]
    found: dict[int, Scored] = {}
    for part in parts_of(shared_rows(TEXTS), 8):
        found |= scored(base, requests, part)
    for index, text in enumerate(TEXTS):
        for sampling, answer in zip(samplings, found[index].answers, strict=True):
            assert answer.made.text == generate(base, TokenIds(text), sampling=sampling).text
            assert (answer.made.prompt_tokens, answer.made.completion_tokens) == (len(text), 1)
            own = float(plain(base, text)[-1, answer.logprob.chosen.token])
            assert answer.logprob.chosen.logprob == pytest.approx(own, abs=1e-4)


def test_tokens_that_the_base_lacks_are_refused(base: Base) -> None:
    assert encode_prompt(base, TokenIds((5, 6)), 1) == (5, 6)
    with pytest.raises(InputError, match=f"token {base.vocabulary} is not one of"):
        encode_prompt(base, TokenIds((5, base.vocabulary)), 1)
    with pytest.raises(InputError, match="tokens and max_new_tokens is 1"):
        encode_prompt(base, TokenIds((5,) * base.context_length), 1)


def opened(base: Base, clock: Clock | None = None, **limits: Any) -> Prompts:
    prompts = Prompts(PromptLimits(**limits), now=clock or Clock())
    prompts.open(base)
    return prompts


def asked(prompts: Prompts, listener: Texts) -> Any:
    return prompts.scorings.ask(listener, prompts.scorings.parts(listener.texts))


def test_requests_take_turns(base: Base) -> None:
    prompts = opened(base, scored_tokens=8)
    large, small = Texts([(n, n, n, n, n) for n in range(1, 9)]), Texts([(9, 9)])
    futures = [asked(prompts, listener) for listener in (large, small)]
    prompts.turn()
    prompts.turn()
    assert [future.done() for future in futures] == [False, True]
    while prompts.any:
        prompts.turn()
    assert [len(one.logprobs) for one in futures[0].result()] == [4] * 8


def test_who_leaves_comes_too_late_or_fails_ends_alone(base: Base) -> None:
    clock = Clock()
    prompts = opened(base, clock, waiting=4, timeout_s=60)
    gone, late, broken, well = Texts(), Texts(), Texts(), Texts()
    gone.has_left = True
    broken.error = InputError("no such adapter")
    late_future = asked(prompts, late)
    clock.now = 61
    others = [asked(prompts, listener) for listener in (gone, broken, well)]
    with pytest.raises(BusyError):
        asked(prompts, well)
    while prompts.any:
        prompts.turn()
    with pytest.raises(PromptTimeoutError):
        late_future.result()
    assert others[0].result() == []
    with pytest.raises(InputError, match="no such adapter"):
        others[1].result()
    assert len(others[2].result()) == len(TEXTS)


def test_prompts_get_tokens_between_the_layers_of_a_forward_that_scores(base: Base) -> None:
    """And neither changes the other's numbers."""
    clock = Clock()
    prompts = opened(base, clock)
    turns = Turns(SimpleNamespace(any=False), prompts, Shares(0.25), lambda: False)  # type: ignore[arg-type]
    alone = asked(prompts, Texts())
    prompts.turn()
    listener = Listener("good =>", 12)
    answer = prompts.ask(listener)
    prompts.turn()
    length = len(listener.text)
    future = asked(prompts, Texts())
    steps: list[int] = []

    def hook() -> None:
        clock.now += 1
        turns.preempt(base)
        steps.append(len(listener.text))

    base.bank.preemption_hook = hook
    try:
        prompts.turn()
    finally:
        base.bank.preemption_hook = no_preemption
    assert steps[-1] > length + 3
    assert [one.logprobs for one in future.result()] == [one.logprobs for one in alone.result()]
    while prompts.any:
        prompts.turn()
    assert answer.result() == generate(base, "good =>", sampling=Sampling(12))
