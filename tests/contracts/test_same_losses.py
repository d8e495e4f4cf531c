"""Every saving gives the losses of the plain way: padded rows, one sequence per option, one probe at a time."""

from pathlib import Path
from typing import Any

import pytest
import torch

from steerzo_edge.assemble import assemble
from steerzo_edge.data.batches import batch_rows
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.quantization import Quantization
from steerzo_edge.run_data import Data, tokenized
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.parts import Parts
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.oracle import Round
from steerzo_edge.zo.strategy import Probe
from tests.conftest import DATASETS, Loader
from tests.contracts.pairwise import Factors, covering
from tests.families import FAMILIES, saved, seeded
from tests.plain import plain_losses

PROBES = [Probe(Direction.seeded(seed), 0.05 * (-1) ** seed) for seed in range(5)]
SUBSETS: dict[str, dict[str, Any]] = {
    "all-layers": {"kind": "lora", "rank": 4},
    "both-factors": {"kind": "lora", "rank": 2, "freeze_a": False, "targets": "all-linear"},
    "top-layer": {"kind": "lora", "rank": 4, "last_layers": 1},
    "input-subspace": {"kind": "lora", "rank": 3, "init_a": "input-subspace"},
    "lora-xs": {"kind": "lora-xs", "rank": 6},
    "lora-xs-blocks-of-the-top": {"kind": "lora-xs", "rank": 4, "last_layers": 2, "block_layers": 1},
    "whole-top-layer": {"kind": "last-n-layers", "layers": 1},
    "blocks": {"kind": "lora", "rank": 4, "block_layers": 1},
    "blocks-of-the-top": {"kind": "lora", "rank": 4, "last_layers": 2, "block_layers": 1, "block_order": "random"},
}
SAVINGS: dict[str, dict[str, Any]] = {
    "sequential": {"probes_per_forward": 1},
    "stacked": {"probes_per_forward": 8},
    "stacked-in-chunks": {"probes_per_forward": 2},
    "prefix-on-disk": {"probes_per_forward": 8, "prefix_memory_mib": 0},
    "prefix-once-a-batch": {"probes_per_forward": 8, "prefix_memory_mib": 0, "prefix_disk_mib": 0},
}
# Float32 sums in another order: other shapes of products, and softmax over other lengths. Probes differ by
# about 1e-2 here, so that a probe on the wrong rows or layers stands out by a factor of a thousand.
TOLERANCE: dict[str, Any] = {"rtol": 2e-5, "atol": 2e-5}
Built = tuple[Parts, Tokenized]


def built(
    base: Base, rows: str, subset: dict[str, Any], batch: dict[str, Any], scratch: Path, option_mass: float = 0.0
) -> Built:
    profile = resolve(
        {
            "subset": subset,
            "method": {"kind": "all-losses", "pool": 8, "epsilon": 0.05},
            "rule": {"kind": "sgd", "learning_rate": 0.05},
            "objective": {"option_mass": option_mass},
            "batch": {"examples": 5, "max_tokens": 64, **batch},
        }
    )
    data = tokenized(base.tokenizer, base.context_length, profile, DATASETS[rows](), None, seed=5).train
    return assemble(base, profile, Data(data, None), seed=5, scratch=scratch), data


def compare(base: Base, parts: Parts, data: Tokenized, steps: range = range(3), option_mass: float = 0.0) -> None:
    for step in steps:
        block = parts.blocks.of(step)
        indices = batch_rows(5, step, len(data.rows), 5)
        expected = torch.tensor(plain_losses(base, parts, data, indices, PROBES, block, option_mass))
        assert len(set(expected.tolist())) == len(PROBES)
        found = torch.tensor(parts.oracle.evaluate(Round(step, block.index, tuple(PROBES))))
        torch.testing.assert_close(found, expected, **TOLERANCE)
        parts.subset.parameters.add_(0.02 * torch.randn(parts.subset.parameters.shape, generator=seeded(step)))


FACTORS: Factors = {"subset": SUBSETS, "saving": SAVINGS, "rows": DATASETS, "quantization": ("nf4", "int8", "none")}
# A covering of all pairs, and of every triple of rows, saving and quantization: how rows are packed decides the
# shapes of the products that a saving stacks and a quantized layer computes.
# 60 cases of 540. They hold all 155 pairs and 217 of 483 triples; dropped are the other triples, each with a
# subset in it, and what needs four values together.
TOGETHER = [("rows", "saving", "quantization")]


@pytest.mark.parametrize(tuple(FACTORS), covering(FACTORS, TOGETHER))
def test_the_losses_are_those_of_the_plain_way(
    tiny: Loader, tmp_path: Path, subset: str, saving: str, rows: str, quantization: Quantization
) -> None:
    base = tiny(quantization, torch.float32)
    compare(base, *built(base, rows, SUBSETS[subset], SAVINGS[saving], tmp_path))


@pytest.mark.parametrize("option_mass", [0.1, 1.0])
@pytest.mark.parametrize("rows", DATASETS)
def test_the_options_common_probability(tiny: Loader, tmp_path: Path, rows: str, option_mass: float) -> None:
    base = tiny("none", torch.float32)
    parts, data = built(base, rows, SUBSETS["top-layer"], SAVINGS["stacked"], tmp_path, option_mass)
    compare(base, parts, data, option_mass=option_mass)


@pytest.mark.parametrize("rows", DATASETS)
@pytest.mark.parametrize(("queries", "score_bytes", "group_cost"), [(7, 1, 0), (16, 4000, 10**9), (1, 1 << 20, 50)])
def test_losses_do_not_depend_on_the_chunks_of_attention(
    tiny: Loader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: str,
    queries: int,
    score_bytes: int,
    group_cost: int,
) -> None:
    monkeypatch.setattr("steerzo_edge.model.attention.QUERIES", queries)
    monkeypatch.setattr("steerzo_edge.model.attention.SCORE_BYTES", score_bytes)
    monkeypatch.setattr("steerzo_edge.data.packing.GROUP_COST", group_cost)
    base = tiny("none", torch.float32)
    compare(base, *built(base, rows, SUBSETS["all-layers"], SAVINGS["stacked"], tmp_path))


def test_the_comparison_notices_a_wrong_layer(tiny: Loader, tmp_path: Path) -> None:
    base = tiny("none", torch.float32)
    parts, data = built(base, "phrases", SUBSETS["blocks"], SAVINGS["stacked"], tmp_path)
    first, second = parts.blocks.of(0), parts.blocks.of(1)
    expected = plain_losses(base, parts, data, batch_rows(5, 0, len(data.rows), 5), PROBES, first)
    found = parts.oracle.evaluate(Round(0, second.index, tuple(PROBES)))
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) > 1e-3


@pytest.fixture(scope="module")
def family_path(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Saves the tiny random model of a family."""

    def save(family: str) -> Path:
        return saved(FAMILIES[family], tmp_path_factory.mktemp(family))

    return save


# All pairs of a family, a subset and a kind of rows: 126 cases of 504. Dropped are three that meet only together;
# every subset meets every kind of rows, and every quantization and saving, in the first test.
FAMILY_FACTORS: Factors = {"family": FAMILIES, "subset": SUBSETS, "rows": DATASETS}
OF_FAMILIES = covering(FAMILY_FACTORS)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family_path: Any, tmp_path: Path, family: str) -> None:
    """Learned and rotary positions, windows, caps, fused projections, parallel blocks: all subsets, all rows."""
    base = load_base(str(family_path(family)), quantization="none", compute_dtype=torch.float32, device="cpu")
    cases = [case[1:] for case in OF_FAMILIES if case[0] == family]
    assert {subset for subset, _ in cases} == set(SUBSETS)
    assert {rows for _, rows in cases} == set(DATASETS)
    for subset, rows in cases:
        compare(
            base, *built(base, rows, SUBSETS[subset], SAVINGS["stacked"], tmp_path / f"{subset}-{rows}"), range(2)
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_four_bits(family_path: Any, tmp_path: Path, family: str) -> None:
    base = load_base(str(family_path(family)), quantization="nf4", compute_dtype=torch.float32, device="cpu")
    compare(base, *built(base, "phrases", SUBSETS["blocks-of-the-top"], SAVINGS["stacked"], tmp_path))


KINDS: dict[str, dict[str, Any]] = {
    "lora-xs": {"kind": "lora-xs"},
    "input-subspace": {"kind": "lora", "init_a": "input-subspace"},
}
LAYERS = {"all": None, "one": 1, "two": 2}
RANK_FACTORS: Factors = {"kind": KINDS, "rank": ("1", "2", "3", "7", "12", "16"), "last": LAYERS, "block": LAYERS}
# All triples with a kind in them: 36 cases of 108. Dropped is a rank together with both numbers of layers.
RANKS_TOGETHER = [("kind", "rank", "last"), ("kind", "rank", "block"), ("kind", "last", "block")]


@pytest.mark.parametrize(tuple(RANK_FACTORS), covering(RANK_FACTORS, RANKS_TOGETHER))
def test_losses_with_any_rank_in_any_layers(
    tiny: Loader, tmp_path: Path, kind: str, rank: str, last: str, block: str
) -> None:
    base = tiny("nf4", torch.float32)
    subset = {**KINDS[kind], "rank": int(rank), "last_layers": LAYERS[last], "block_layers": LAYERS[block]}
    compare(base, *built(base, "phrases", subset, SAVINGS["stacked"], tmp_path), range(2))
