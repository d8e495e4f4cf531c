"""A real base that was packed once starts in a fraction of the time, in no more memory than its packed size."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from steerzo_edge.decoding.generate import generate
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.model.load import load_base
from steerzo_edge.model.packed.cache import PackedCache

pytestmark = [pytest.mark.real, pytest.mark.long]
SMALL_MIB = 40


def start(base: Path, cache: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.packed_start", "--base", str(base), "--child", str(cache)],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"}, timeout=300, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_second_start(real_base_file: Path, tmp_path: Path) -> None:
    """At most a quarter of the first one's load. Libraries, tokenizer and modules take the small part of memory."""
    first, second = (start(real_base_file, tmp_path) for _ in range(2))
    (packed,) = tmp_path.glob("*.packed")
    assert second["load"] <= first["load"] / 4, (first, second)
    mib = packed.stat().st_size / (1 << 20)
    assert second["peak_mib"] <= second["imports_mib"] + mib + SMALL_MIB, (second, mib)
    assert second["loaded_mib"] <= first["loaded_mib"], (first, second)


def test_it_is_the_same_base(real_base_file: Path, tmp_path: Path) -> None:
    cache = PackedCache(tmp_path, 1 << 30)
    first = load_base(str(real_base_file), device="cpu", cache=cache)
    second = load_base(str(real_base_file), device="cpu", cache=cache)
    assert cache.kept()[0].in_use
    assert second.fingerprint == first.fingerprint
    ids = torch.arange(100, 140).unsqueeze(0)
    with torch.inference_mode():
        assert torch.equal(second.model(input_ids=ids).logits, first.model(input_ids=ids).logits)
    assert generate(second, "The capital of France is", sampling=Sampling(1)).text == " Paris"
