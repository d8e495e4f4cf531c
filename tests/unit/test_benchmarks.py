"""The benchmarks run and write what their readers expect; what they measure is their own business."""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from benchmarks import memory, real_shapes, shapes, step_time
from benchmarks.reference import reference_model
from steerzo_edge.model.load import load_base
from tests.forked import ROOT, forks
from tests.gguf_file import gguf_of

pytestmark = pytest.mark.long

SMALL = {
    "vocab_size": 8192, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 2,
}  # fmt: skip


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(module: Any, *arguments: str) -> list[dict[str, Any]]:
        path = tmp_path / "found.json"
        monkeypatch.setattr(sys, "argv", [module.__name__, *arguments, "--json", str(path)])
        module.main()
        found: list[dict[str, Any]] = json.loads(path.read_text())
        return found

    return run


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
def test_step_time(measured: Any, tiny_path: Path) -> None:
    methods = ("--methods", "two-point,greedy(4)", "--steps", "2", "--batch", "4")
    rows = measured(step_time, "--base", str(tiny_path), "--workloads", "intents", *methods)
    assert [(row["workload"], row["subset"], row["method"]) for row in rows] == [
        ("intents", subset, method)
        for subset in ("lora-all", "top-quarter")
        for method in ("two-point", "greedy(4)")
    ]
    for row in rows:
        assert len(row["reference_s"]) == len(row["ours_s"]) == 2
        assert row["ratio_median"] == pytest.approx(
            median(theirs / ours for theirs, ours in zip(row["reference_s"], row["ours_s"], strict=True))
        )
        assert sum(row["split"].values()) == pytest.approx(1)
        # Below 1 on a machine that does nothing else; other tests may run beside this one.
        assert 0 < row["matrix_share"] < 5
        assert (row["prefix_s"] > 0) == (row["subset"] == "top-quarter")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
def test_step_time_in_parts(measured: Any, tmp_path: Path) -> None:
    """Also of a GGUF file, which the reference reads as a checkpoint in 16 bits."""
    part = [
        step_time, "--workloads", "intents", "--subsets", "lora-all", "--steps", "1", "--warm-ups", "0",
        "--rows", "8", "--batch", "2", "--quantization", "none", "--keep",
        "--base", str(gguf_of(tmp_path / "x.gguf")),
    ]  # fmt: skip
    (first,) = measured(*part, "--methods", "two-point")
    rows = measured(*part, "--methods", "two-point,greedy(4)")
    assert [row["method"] for row in rows] == ["two-point", "greedy(4)"]
    assert rows[0] == first


def test_the_reference_of_a_gguf_file_has_its_weights(tmp_path: Path) -> None:
    base = load_base(str(gguf_of(tmp_path / "x.gguf")), quantization="none", device="cpu")
    weights = dict(reference_model(base).named_parameters())
    for name, layer in base.bank.layers.items():
        assert torch.equal(weights[f"{name}.weight"], layer.weight_like_base(torch.bfloat16)), name


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
@pytest.mark.filterwarnings("ignore:.*gemv_4bit")  # gradients through bitsandbytes' CPU kernel: a smoke test only
def test_real_shapes(measured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shapes.SHAPES, "small", lambda: LlamaConfig(**SMALL))
    rows = measured(real_shapes, "--shapes", "small", "--tokens", "8", "--steps", "1", "--batch", "2")
    methods = [row["method"] for row in rows]
    assert len(methods) == len(set(methods)) == 7
    assert all(row["seconds"][0] > 0 for row in rows)
    assert [row["ratio"] for row in rows if row["method"].startswith("reference")] == [1, 1]


def test_memory(measured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two that are compared are measured in processes of their own, as all are outside of tests."""
    in_child = memory._in_child

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Forks instead of importing everything anew."""
        interpreter, flag, module, *arguments = command
        assert (interpreter, flag) == (sys.executable, "-m")
        program = f"import runpy; runpy.run_module({module!r}, run_name='__main__')"
        done = forks().run(program, *arguments, environment=os.environ, directory=ROOT, timeout_s=120)
        assert done.returncode == 0, done.stderr
        return done

    monkeypatch.setattr("benchmarks.memory.subprocess.run", run)

    def measure(options: Any, subset: str, what: str, pool: int = 1, stacked: int = 1) -> int:
        if what in ("load", "inference"):
            return in_child(options, subset, what)
        return memory._peak(options, {"subset": subset, "what": what, "pool": pool, "stacked": stacked})

    monkeypatch.setattr(memory, "_in_child", measure)
    monkeypatch.setattr(memory, "POOLS", (1, 2))
    rows = measured(memory, "--workload", "intents", "--subsets", "last-1-layer", "--batch", "2")
    assert [(row["pool"], row["probes_per_forward"]) for row in rows] == [(1, 1), (2, 1), (2, 2)]
    for row in rows:
        assert row["loaded_bytes"] < row["inference_bytes"]
        assert row["ratio"] == pytest.approx(row["step_bytes"] / row["inference_bytes"])
