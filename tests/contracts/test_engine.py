"""What every strategy, rule, oracle, subset and quantization must keep, in combinations that hold every pair."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from steerzo_edge.assemble import assemble
from steerzo_edge.data.packing import Packed
from steerzo_edge.errors import ProfileError
from steerzo_edge.model.base import Base
from steerzo_edge.model.quantization import Quantization
from steerzo_edge.records import EvalRecord, StepRecord
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import Profile, resolve
from steerzo_edge.training.loop import finetune
from steerzo_edge.training.parts import Parts
from steerzo_edge.training.progress import Progress
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.oracle import Round
from steerzo_edge.zo.replay import replay
from steerzo_edge.zo.strategy import Probe
from tests.conftest import DATASETS, Loader, first_estimate, labelled_rows
from tests.contracts.pairwise import Factors, covering

QUANTIZATIONS: tuple[Quantization, ...] = ("nf4", "int8", "none")
SUBSETS = {
    "lora-frozen-a": {"kind": "lora", "rank": 4, "alpha": 8, "freeze_a": True},
    "lora": {"kind": "lora", "rank": 2, "alpha": 3, "freeze_a": False, "targets": ["q_proj", "down_proj"]},
    "last-n-layers": {"kind": "last-n-layers", "layers": 1},
    "lora-inputs": {"kind": "lora", "rank": 4, "alpha": 8, "init_a": "input-subspace"},
    "lora-xs": {"kind": "lora-xs", "rank": 5, "alpha": 10, "targets": ["q_proj", "v_proj", "up_proj"]},
}
METHODS: dict[str, tuple[dict[str, Any], int]] = {
    "two-point": ({"kind": "two-point"}, 2),
    "guiding-vector": ({"kind": "guiding-vector", "pool": 4}, 6),
    "keep-best": ({"kind": "guiding-vector", "pool": 3, "history": "keep-best"}, 5),
    "greedy": ({"kind": "greedy", "pool": 3}, 4),
    "all-losses": ({"kind": "all-losses", "pool": 4, "scaling": "none"}, 4),
    "normalized": ({"kind": "all-losses", "pool": 4, "scaling": "normalized", "reject": 4}, 4),
    "weighted-guide": ({"kind": "weighted-guide", "pool": 3, "scaling": "running-rms", "clip": 2}, 5),
    "cone": ({"kind": "two-point", "cone": {"terms": 3}, "noise": "rademacher"}, 2),
}
RULES = {"sgd": {"kind": "sgd"}, "momentum": {"kind": "momentum"}, "adam": {"kind": "adam"}}
PROBES = {"sequential": 1, "chunks": 3, "batched": 8}
FACTORS: Factors = {
    "method": METHODS,
    "rule": RULES,
    "subset": SUBSETS,
    "quantization": QUANTIZATIONS,
    "probes": PROBES,
}
# A covering of all pairs, and of these triples: how a stacked forward moves the parameters of a layer that is
# stored in one of three ways, and what a rule makes of losses that came in chunks of one size or another.
# 72 cases of 1,080. They hold all 184 pairs, 467 of 738 triples, 316 of 1,431 quadruples; dropped are the other
# combinations of three or more values, for example a method's with both a rule and a subset.
TOGETHER = [("subset", "quantization", "probes"), ("method", "rule", "probes")]


def profile_of(method: str, rule: str, subset: str, probes: int, steps: int = 3) -> Profile:
    return resolve(
        {
            "subset": SUBSETS[subset],
            "method": {**METHODS[method][0], "epsilon": 0.01},
            "rule": {**RULES[rule], "learning_rate": 0.01},
            "batch": {"examples": 4, "max_tokens": 64, "probes_per_forward": probes},
            "steps": steps,
        }
    )


def parts_of(base: Base, profile: Profile, rows: str = "single-token") -> Parts:
    data = tokenized(base.tokenizer, base.context_length, profile, DATASETS[rows](), None, seed=5)
    return assemble(base, profile, data, seed=5)


def run(parts: Parts) -> tuple[list[StepRecord], list[Entry]]:
    entries: list[Entry] = []
    records = list(finetune(parts, journal=entries.append))
    assert all(isinstance(record, StepRecord) for record in records)
    return records, entries  # type: ignore[return-value]


@pytest.mark.parametrize(tuple(FACTORS), covering(FACTORS, TOGETHER))
def test_a_run_keeps_its_promises(
    tiny: Loader, method: str, rule: str, subset: str, quantization: Quantization, probes: str
) -> None:
    base = tiny(quantization, torch.bfloat16)
    profile = profile_of(method, rule, subset, PROBES[probes])
    parts = parts_of(base, profile)
    start = parts.subset.parameters.clone()

    # Probes leave the parameters bitwise untouched.
    estimate, forwards = first_estimate(parts)
    assert torch.equal(parts.subset.parameters, start)
    assert forwards == METHODS[method][1]
    assert estimate.skipped is None

    # Every step costs exactly what the strategy says, and moves the parameters.
    records, entries = run(parts)
    assert [record.step for record in records] == [0, 1, 2]
    assert [record.forwards for record in records] == [METHODS[method][1] * n for n in (1, 2, 3)]
    assert not torch.equal(parts.subset.parameters, start)

    # The journal's lines alone give the same bytes.
    again = parts_of(base, profile)
    assert torch.equal(again.subset.parameters, start)
    replay(entries, again.subset, again.rule, again.blocks)
    assert torch.equal(again.subset.parameters, parts.subset.parameters)
    for name, state in parts.rule.state().items():
        assert torch.equal(again.rule.state()[name], state)


DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
STACK_FACTORS: Factors = {"subset": SUBSETS, "quantization": QUANTIZATIONS, "rows": DATASETS, "dtype": DTYPES}
# All pairs, and every triple with quantization and type, which choose the kernels: 30 cases of 120. Dropped are the
# other triples, of a subset and a kind of rows; `test_same_losses.py` has more of them.
STACKED_TOGETHER = [("quantization", "rows", "dtype"), ("subset", "quantization", "dtype")]


@pytest.mark.parametrize(tuple(STACK_FACTORS), covering(STACK_FACTORS, STACKED_TOGETHER))
def test_batched_probes_equal_sequential_ones(
    tiny: Loader, subset: str, quantization: Quantization, rows: str, dtype: str
) -> None:
    base = tiny(quantization, DTYPES[dtype])
    answers = []
    for probes in (1, 3, 8):
        parts = parts_of(base, profile_of("all-losses", "sgd", subset, probes), rows)
        asked = [Probe(Direction.seeded(seed), 0.02 * (-1) ** seed) for seed in range(7)]
        answers.append(torch.tensor(parts.oracle.evaluate(Round(1, parts.blocks.of(0).index, tuple(asked)))))
    assert len({float(loss) for loss in answers[0]}) == 7
    # Rows are independent, but a matrix product over more rows may be cut into other blocks, and a stack of
    # products (bmm) sums in another order than a single one: a few roundings of the compute type, averaged
    # over the batch. The losses themselves are near 1 and the probes' differences near 1e-2.
    tolerance = 3e-3 if dtype == "bf16" else 2e-6
    for stacked in answers[1:]:
        torch.testing.assert_close(stacked, answers[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("probes", [1, 8], ids=["sequential", "batched"])
def test_an_exception_in_a_forward_leaves_everything_as_it_was(
    tiny: Loader, monkeypatch: pytest.MonkeyPatch, probes: int
) -> None:
    base = tiny("none", torch.float32)
    parts = parts_of(base, profile_of("two-point", "sgd", "lora", probes))
    start = parts.subset.parameters.clone()

    def fail(*args: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(type(base), "hidden", fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        first_estimate(parts)
    assert torch.equal(parts.subset.parameters, start)
    assert not base.bank.active


def test_memory_that_runs_out_halves_the_chunk_and_keeps_the_step(
    tiny: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny("none", torch.float32)
    profile = resolve(profile_of("all-losses", "sgd", "lora-frozen-a", 4).model_dump(), {"memory": "fast"})
    parts = parts_of(base, profile)  # with `lean` the batch itself may be cut into parts
    calm = first_estimate(parts)[0]
    whole = type(base).hidden
    sizes: list[int] = []

    def small_memory(self: Base, packed: Packed, copies: int = 1, states: object = None) -> torch.Tensor:
        sizes.append(copies)
        if copies > 1:
            raise torch.OutOfMemoryError("as if")
        return whole(self, packed, copies)

    monkeypatch.setattr(type(base), "hidden", small_memory)
    estimate = first_estimate(parts)[0]
    assert sizes == [4, 2, 1, 1, 1, 1]
    assert estimate.loss == pytest.approx(calm.loss, rel=1e-5)


def test_a_run_can_stop_and_go_on_anywhere(tiny: Loader, tmp_path: Path) -> None:
    base = tiny("nf4", torch.bfloat16)
    whole = parts_of(base, profile_of("keep-best", "adam", "lora", 8, steps=6))
    run(whole)

    first = parts_of(base, profile_of("keep-best", "adam", "lora", 8, steps=6))
    entries: list[Entry] = []
    list(islice(finetune(first, journal=entries.append), 3))

    second = parts_of(base, profile_of("keep-best", "adam", "lora", 8, steps=6))
    replay(entries, second.subset, second.rule, second.blocks)
    rest = list(finetune(second, journal=entries.append, progress=Progress.of(entries)))
    assert [record.step for record in rest] == [3, 4, 5]
    assert torch.equal(second.subset.parameters, whole.subset.parameters)


def test_a_subset_deeper_than_the_base(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    whole, deeper = (
        parts_of(base, resolve({"subset": {"kind": "lora", "rank": 2, "last_layers": n}})) for n in (None, 9)
    )
    assert whole.subset.slots == deeper.subset.slots
    with pytest.raises(ProfileError, match="layers is 4, but the base has 3"):
        parts_of(base, resolve({"subset": {"kind": "last-n-layers", "layers": 4}}))


def test_training_lowers_the_loss(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    profile = resolve(
        {
            "subset": {"kind": "lora", "rank": 4},
            "method": {"kind": "all-losses", "pool": 8, "epsilon": 0.01},
            "rule": {"kind": "sgd", "learning_rate": 0.01},
            "batch": {"examples": 8, "max_tokens": 64},
            "steps": 60,
            "evaluate": {"every": 60, "holdout": 0},
        }
    )
    data = tokenized(base.tokenizer, 256, profile, labelled_rows(), labelled_rows(), seed=0)
    records = list(finetune(assemble(base, profile, data, seed=0)))
    before, after = (record for record in records if isinstance(record, EvalRecord))
    assert before.loss is not None
    assert after.loss is not None
    assert after.loss < 0.6 * before.loss


@pytest.fixture(autouse=True)
def _no_route_is_left_active(tiny: Loader) -> Iterator[None]:
    yield
    for quantization in QUANTIZATIONS:
        tiny(quantization, torch.bfloat16)
