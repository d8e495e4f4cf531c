"""Answers of a real base beside those of other libraries: `python -m benchmarks.serving --base FILE.gguf`.

    python -m benchmarks.serving --base FILE.gguf [--llama-cpp PYTHON] [--rounds 3] [--tokens 64] [--json FILE]

This engine with the base in nf4, `transformers` with the same weights in nf4 and in bf16, and llama.cpp with the
file itself, each in a process of its own with the same number of threads. Every round gives each of them the same
waves, one after another: one prompt and then eight, with an answer of one token (the time of the first token) and a
long one. Figures are medians over rounds; a round before them warms up.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description
from steerzo_edge.model.load import quiet
from steerzo_edge.model.merged import load_sixteen_bits

TOGETHER = 8
PROMPT = "Day {day}. Once upon a time there was a little dog who lived in a house by the sea, and every morning"
OURS, NF4, BF16, LLAMA_CPP = "ours", "transformers-nf4", "transformers-bf16", "llama.cpp"


class Worker:
    """A library in a process of its own.

    Args:
        command: Starts it; see `serving_worker.py` for what it reads and prints.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=environment,
        )  # fmt: skip
        self.load_s = float(self._heard()["load_s"])

    def wave(self, prompts: Sequence[str], tokens: int) -> dict[str, float]:
        """Seconds until all prompts have answers of so many tokens, and the process's peak memory in MiB."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompts": list(prompts), "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        return self._heard()

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate(timeout=60)

    def _heard(self) -> dict[str, float]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # libraries print messages of their own
                found: dict[str, float] = json.loads(line)
                return found
        self.close()
        raise RuntimeError(f"{' '.join(self._command)} ended")


@contextmanager
def sixteen_bits(base: str) -> Iterator[str]:
    """A directory with the weights of a base in bf16, for `transformers`."""
    loaded = load_sixteen_bits(base)
    for name, layer in loaded.bank.layers.items():
        loaded.model.set_submodule(name, layer.base)
    with tempfile.TemporaryDirectory() as directory:
        with quiet():
            loaded.model.to(torch.bfloat16).save_pretrained(directory)
        loaded.tokenizer.save_pretrained(directory)
        del loaded
        yield directory


def commands(base: str, directory: str, llama_cpp: str | None) -> dict[str, list[str]]:
    """The command of each library; llama.cpp is left out if there is no Python that has it.

    Args:
        base: A GGUF file.
        directory: The same weights for `transformers`.
        llama_cpp: A Python with the package `xllamacpp`, or None.
    """
    threads = str(torch.get_num_threads())
    python = [sys.executable, "-m", "benchmarks.serving_worker"]
    found = {
        OURS: [*python, OURS, base, threads],
        NF4: [*python, NF4, directory, threads],
        BF16: [*python, BF16, directory, threads],
    }
    if llama_cpp is not None:
        found[LLAMA_CPP] = [llama_cpp, str(Path(__file__).with_name("serving_llama_cpp.py")), base, threads]
    return found


def measured(workers: Mapping[str, Worker], rounds: int, tokens: int) -> dict[str, dict[str, float]]:
    """Medians over rounds, by library."""
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    day = 0
    for number in range(rounds + 1):
        days = range(day, day := day + 2 * (TOGETHER + 1))
        prompts = [PROMPT.format(day=one) for one in days]
        for name, worker in workers.items():
            found = _round(worker, prompts, tokens)
            if number:
                seen[name].append(found)
    return {name: {key: median(one[key] for one in found) for key in found[0]} for name, found in seen.items()}


def _round(worker: Worker, prompts: Sequence[str], tokens: int) -> dict[str, float]:
    one, eight = prompts[:1], prompts[1 : TOGETHER + 1]
    others = prompts[TOGETHER + 1 :]  # prompts of this round that were not read before
    first, first_of_eight = worker.wave(others[:1], 1), worker.wave(others[1:], 1)
    alone = worker.wave(one, tokens)
    together = worker.wave(eight, tokens)
    return {
        "first_token_s": first["seconds"],
        "eight_first_tokens_s": first_of_eight["seconds"],
        "one_tokens_per_s": tokens / alone["seconds"],
        "eight_tokens_per_s": TOGETHER * tokens / together["seconds"],
        # Without reading the prompt: the time of an answer of one token is taken off.
        "one_decoding_per_s": (tokens - 1) / (alone["seconds"] - first["seconds"]),
        "eight_decoding_per_s": TOGETHER * (tokens - 1) / (together["seconds"] - first_of_eight["seconds"]),
        "peak_mib": together["peak_mib"],
    }


def figures(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The ratios that were set as goals."""
    ours = found[OURS]
    told = {"one_over_transformers_nf4": ours["one_tokens_per_s"] / found[NF4]["one_tokens_per_s"]}
    if LLAMA_CPP in found:
        told["one_over_llama_cpp"] = ours["one_tokens_per_s"] / found[LLAMA_CPP]["one_tokens_per_s"]
    return told | {"eight_over_one": ours["eight_tokens_per_s"] / ours["one_tokens_per_s"]}


def _table(name: str, found: Mapping[str, Mapping[str, float]], loads: Mapping[str, float]) -> Table:
    table = Table("", "first token", "1 prompt", "8 prompts", "1, decoding", "8, decoding", "peak", "loaded after")
    table.title = f"{name}: tokens/s"
    for kind, one in found.items():
        rates = [one[f"{count}_{what}_per_s"] for what in ("tokens", "decoding") for count in ("one", "eight")]
        cells = [f"{1000 * one['first_token_s']:.0f} ms", *(f"{rate:.1f}" for rate in rates)]
        table.add_row(kind, *cells, f"{one['peak_mib']:.0f} MiB", f"{loads[kind]:.1f} s")
    return table


def run(base: str, llama_cpp: str | None, rounds: int, tokens: int, out: Path | None) -> None:
    """Measures, prints and writes.

    Args:
        base: A GGUF file.
        llama_cpp: A Python with the package `xllamacpp`; None leaves llama.cpp out.
        rounds: Whose medians are taken.
        tokens: Of an answer.
        out: A JSON file, or None.
    """
    console = Console(width=120)
    with ExitStack() as stack:
        directory = stack.enter_context(sixteen_bits(base))
        workers: dict[str, Worker] = {}
        for kind, command in commands(base, directory, llama_cpp).items():
            workers[kind] = Worker(command)
            stack.callback(workers[kind].close)
        found = measured(workers, rounds, tokens)
        loads = {kind: worker.load_s for kind, worker in workers.items()}
    name = Path(base).name
    console.print(_table(name, found, loads))
    if llama_cpp is None:
        console.print("llama.cpp was left out: --llama-cpp names a Python that has the package xllamacpp")
    told: dict[str, Any] = {"base": name, "rounds": rounds, "tokens": tokens, "figures": figures(found)}
    console.print(told["figures"])
    told |= {"machine": description(torch.device("cpu")), "load_s": loads, "libraries": found}
    if out is not None:
        out.write_text(json.dumps(told, indent=1) + "\n")
