"""The benchmark of answers beside other libraries: its processes, and the figures that it prints."""

import sys
from pathlib import Path

import pytest

from benchmarks.serving_real import BF16, LLAMA_CPP, NF4, OURS, Worker, commands, figures, measured


@pytest.mark.long
def test_a_library_answers_in_a_process_of_its_own() -> None:
    worker = Worker([sys.executable, "-m", "benchmarks.serving_worker", OURS, "bundled", "1"])
    try:
        assert worker.load_s > 0
        short, long = (worker.wave(["Once upon a time", "The rain"], tokens) for tokens in (1, 24))
        assert 0 < short["seconds"] < long["seconds"]
        assert long["peak_mib"] > 100
    finally:
        worker.close()


@pytest.mark.long
def test_a_process_that_ends_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"serving_worker ours /no/such 1 ended"):
        Worker([sys.executable, "-m", "benchmarks.serving_worker", OURS, "/no/such", "1"])


def test_llama_cpp_is_left_out_without_a_python_that_has_it() -> None:
    assert set(commands("base.gguf", "directory", None)) == {OURS, NF4, BF16}
    python, script, base, _ = commands("base.gguf", "directory", "/other/python")[LLAMA_CPP]
    assert (python, base) == ("/other/python", "base.gguf")
    assert Path(script).is_file()


class TimedWorker(Worker):
    """Takes a second for every prompt, and a hundredth for every token; gets slower from call to call."""

    def __init__(self, slowness: float) -> None:
        self.load_s = 1.0
        self.calls: list[tuple[str, ...]] = []
        self._slowness = slowness

    def wave(self, prompts: list[str], tokens: int) -> dict[str, float]:  # type: ignore[override]
        self.calls.append(tuple(prompts))
        seconds = self._slowness * (len(prompts) + tokens / 100)
        return {"seconds": seconds, "peak_mib": 100.0 + len(self.calls)}


def test_figures() -> None:
    workers = {OURS: TimedWorker(1), NF4: TimedWorker(2), LLAMA_CPP: TimedWorker(0.5)}
    found = measured(workers, rounds=3, tokens=100)
    assert found[OURS]["one_tokens_per_s"] == pytest.approx(100 / 2)
    assert found[OURS]["eight_tokens_per_s"] == pytest.approx(800 / 9)
    assert found[OURS]["first_token_s"] == pytest.approx(1.01)
    assert found[OURS]["one_decoding_per_s"] == pytest.approx(100)
    told = figures(found)
    assert told["one_over_transformers_nf4"] == pytest.approx(2)
    assert told["one_over_llama_cpp"] == pytest.approx(0.5)
    assert told["eight_over_one"] == pytest.approx(800 / 9 / 50)
    # All get the same prompts, and no prompt comes twice, which a library might remember.
    assert workers[OURS].calls == workers[LLAMA_CPP].calls
    prompts = [prompt for call in workers[OURS].calls for prompt in call]
    assert len(set(prompts)) == len(prompts)
