"""torch's default float type belongs to all threads, and loading a model sets it: no number may depend on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
import torch

from steerzo_edge.decoding.generate import Sampling, generate
from steerzo_edge.model.adapter_file import load_adapter
from steerzo_edge.model.quantization import Quantization
from steerzo_edge.model.routes import rows
from steerzo_edge.model.segments import segments
from steerzo_edge.run import Run
from tests.conftest import Loader, completion_rows, labelled_rows, phrase_rows, question_rows
from tests.peft_directory import lora_files, written
from tests.unit.runs import profile

SAMPLED = Sampling(24, temperature=1.0, top_p=0.95, top_k=50, seed=3, logprobs=2)
ADAM = {"kind": "adam", "learning_rate": 0.02}
MOMENTUM = {"kind": "momentum", "learning_rate": 0.02}
RUNS: dict[str, dict[str, object]] = {
    "lora": {"rule": ADAM},
    "both-factors": {"subset": {"kind": "lora", "rank": 2, "freeze_a": False}, "rule": MOMENTUM},
    "lora-xs": {"subset": {"kind": "lora-xs", "rank": 2}, "rule": MOMENTUM},
    "layers": {"subset": {"kind": "last-n-layers", "layers": 1}, "rule": ADAM},
}
ROWS = {"labelled": labelled_rows, "phrases": phrase_rows, "completion": completion_rows, "choices": question_rows}


def set_by_another(dtype: torch.dtype) -> None:
    thread = Thread(target=torch.set_default_dtype, args=(dtype,))
    thread.start()
    thread.join()


@contextmanager
def meddling() -> Iterator[None]:
    set_by_another(torch.bfloat16)
    try:
        assert torch.empty(0).dtype is torch.bfloat16
        yield
    finally:
        set_by_another(torch.float32)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("after", [0, 4])
def test_a_run_has_the_same_bytes(tiny: Loader, tmp_path: Path, kind: str, rows: str, after: int) -> None:
    base = tiny("nf4")

    def run_of(name: str) -> Run:
        return Run(tmp_path / name, base, profile(steps=5, **RUNS[kind]), ROWS[rows](), seed=1, snapshot_every=2)

    plain = run_of("plain")
    list(plain.records())
    expected = plain.finish().sha256
    plain.close()

    if after == 0:
        with meddling():
            run = run_of("meddled")
            list(run.records())
    else:
        run = run_of("meddled")
        records = run.records()
        for _ in range(after):
            next(records)
        with meddling():
            list(records)
    assert run.finish().sha256 == expected
    run.close()


@pytest.mark.parametrize("quantization", ["nf4", "int8", "none"])
def test_a_seeded_answer_is_the_same(tiny: Loader, quantization: Quantization) -> None:
    base = tiny(quantization)
    expected = generate(base, "Once", sampling=SAMPLED)
    with meddling():
        assert generate(base, "Once", sampling=SAMPLED) == expected

    def meddle(text: str) -> None:
        set_by_another(torch.bfloat16)

    try:
        assert generate(base, "Once", sampling=SAMPLED, on_text=meddle) == expected
        assert torch.get_default_dtype() is torch.bfloat16
    finally:
        set_by_another(torch.float32)


def test_segments_of_a_row_have_the_same_numbers(tiny: Loader, tmp_path: Path) -> None:
    base = tiny("nf4")
    files = [written(tmp_path / str(seed), lora_files(base, 2, seed=seed)) for seed in (0, 1)]
    route = segments([rows([load_adapter(path, base)]) for path in files], [3, 4])
    name, layer = next(iter(base.bank.layers.items()))
    x = torch.randn(1, 7, layer.in_features, generator=torch.Generator().manual_seed(0), dtype=torch.float32)

    def product() -> torch.Tensor:
        with torch.inference_mode():
            return route[name](layer._frozen.batch_matmul, x)  # the bare layer would pack its weight in place

    expected = product()
    with meddling():
        assert torch.equal(product(), expected)
