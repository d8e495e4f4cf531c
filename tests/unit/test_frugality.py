"""What a step must not do: large tensors over the vocabulary, noise drawn twice, numbers fetched in between."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig

from steerzo_edge.assemble import assemble
from steerzo_edge.data.batches import collate
from steerzo_edge.model.head import BLOCK_BYTES, Head
from steerzo_edge.objectives.likelihood import losses
from steerzo_edge.run_data import Data, tokenized
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.loop import finetune
from steerzo_edge.training.parts import Parts
from steerzo_edge.zo.noise import Noise
from tests.conftest import DATASETS, Loader, first_estimate

VOCABULARY = 50_000


class Watch(TorchDispatchMode):
    """Notes every operation and the largest tensor that one makes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()
        self.largest_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.calls[func.overloadpacket.__name__] += 1
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.largest_bytes = max(self.largest_bytes, tensor.nbytes)
        return made


@pytest.fixture
def wide_head() -> Head:
    return Head(torch.nn.Linear(64, VOCABULARY, bias=False, dtype=torch.bfloat16), LlamaConfig())


def test_the_head_never_holds_all_logits(wide_head: Head) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3000, 64, generator=generator)
    targets = torch.randint(VOCABULARY, (3000,), generator=generator)
    with torch.inference_mode(), Watch() as watch:
        found = wide_head.log_likelihoods(hidden, targets)
    assert watch.largest_bytes <= BLOCK_BYTES < 4 * 3000 * VOCABULARY
    some = slice(0, 50)
    weight = wide_head._weight.float()
    expected = (hidden[some] @ weight.T).log_softmax(-1).gather(1, targets[some, None]).squeeze(1)
    torch.testing.assert_close(found[some], expected)


def test_options_cost_their_own_logits_only(wide_head: Head) -> None:
    with torch.inference_mode(), Watch() as watch:
        wide_head.logits(torch.ones(128, 64), torch.tensor([5, 49_999]))
    assert watch.largest_bytes <= 4 * 128 * 64


def parts_of(tiny: Loader, rows: str, method: dict[str, Any], **subset: Any) -> Parts:
    base = tiny("nf4", torch.bfloat16)
    profile = resolve(
        {
            "subset": {"kind": "lora", "rank": 2, **subset},
            "method": {"epsilon": 1e-3, **method},
            "rule": {"learning_rate": 1e-3},
            "batch": {"examples": 6, "max_tokens": 64},
            "steps": 3,
        }
    )
    data = tokenized(base.tokenizer, base.context_length, profile, DATASETS[rows](), None, seed=5).train
    return assemble(base, profile, Data(data, None), seed=5)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many numbers each call of the generator made."""
    counts: list[int] = []
    original = torch.randn

    def counting(*size: Any, **options: Any) -> torch.Tensor:
        made = original(*size, **options)
        counts.append(made.numel())
        return made

    monkeypatch.setattr("steerzo_edge.zo.noise.torch.randn", counting)
    return counts


METHODS: dict[str, tuple[dict[str, Any], int]] = {
    "two-point": ({"kind": "two-point"}, 1),
    "guiding-vector": ({"kind": "guiding-vector", "pool": 6}, 6),
    "greedy": ({"kind": "greedy", "pool": 4}, 4),
    "all-losses": ({"kind": "all-losses", "pool": 5}, 5),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_step_draws_every_seed_once(tiny: Loader, drawn: list[int], method: str) -> None:
    """Probes, the probes of a second round and the update share what was drawn."""
    config, seeds = METHODS[method]
    parts = parts_of(tiny, "single-token", config)
    drawn.clear()
    steps = finetune(parts)
    for number in (1, 2, 3):
        next(steps)
        assert sum(drawn) == number * seeds * parts.blocks.noise.size
        assert not parts.blocks.noise._cache  # nothing outlives its step


@pytest.mark.parametrize("rows", DATASETS)
def test_a_round_fetches_its_numbers_once(tiny: Loader, rows: str) -> None:
    """On CUDA every scalar fetched inside a round would stop the queue."""
    parts = parts_of(tiny, rows, {"kind": "all-losses", "pool": 5}, last_layers=1)
    parts.batches(0)
    with Watch() as watch:
        first_estimate(parts)
    assert watch.calls["_local_scalar_dense"] == 0
    assert watch.calls["nonzero"] == 0


def test_blocks_of_the_vocabulary_add_up(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    data = tokenized(base.tokenizer, 256, resolve({}), DATASETS["completion"](), None, seed=0).train
    batch = collate(data, list(range(16)))
    small = Head(base.model.get_output_embeddings(), base.model.config, block_bytes=8192)
    whole, base.head = base.head, small
    try:
        with torch.inference_mode():
            frugal = float(losses(base, batch))
    finally:
        base.head = whole
    with torch.inference_mode():
        assert frugal == pytest.approx(float(losses(base, batch)), rel=1e-5)


def test_the_cache_of_noise_is_bounded() -> None:
    noise = Noise(1 << 12, cache_bytes=3 * 4 << 12)
    for seed in range(10):
        noise.draw(seed, 0)
    assert len(noise._cache) == 3
