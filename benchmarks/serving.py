"""Prompts answered together, idle and beside a job: first token, gaps between tokens, tokens a second.

    python -m benchmarks.serving [--concurrency 1,2,4,8,16] [--adapters 1,8] [--tokens 64] [--json FILE]

Through the server's own device thread, without HTTP, on the bundled base. Every round measures each arrangement
once, so that all see the same machine; figures are medians over rounds. `transformers` is its own `generate`, a
prompt after the other, without an adapter.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import cycle, pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description
from benchmarks.workloads import workload
from server.jobs.device import Device
from server.jobs.prompts import Limits
from server.problems import NotReadyError
from steerzo_edge.decoding.decoder import Request
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.generation import Generation, encode_prompt
from steerzo_edge.model.bank import Patches
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.lora import Lora
from steerzo_edge.model.subset import Copies
from steerzo_edge.profile import resolve
from steerzo_edge.run import Run

PROMPT = "Once upon a time there was a little dog who"
PROFILE: dict[str, Any] = {
    "subset": {"kind": "lora"},
    "method": {"kind": "guiding-vector", "pool": 8, "epsilon": 0.01},
    "rule": {"kind": "momentum", "learning_rate": 0.001},
    "batch": {"examples": 8},
    "steps": 1_000_000,
    "evaluate": {"every": 1_000_000, "holdout": 0.1},
}


class Asking:
    """A prompt whose pieces are timed."""

    def __init__(self, request: Request) -> None:
        self.asked_at = time.perf_counter()
        self.times: list[float] = []
        self.has_left = False
        self._request = request

    def request(self, base: Base) -> Request:
        """See `Asker`."""
        return self._request

    def hear(self, text: str) -> None:
        """See `Asker`."""
        self.times.append(time.perf_counter())


class Switched:
    """A job that runs when it is told to."""

    def __init__(self, directory: Path) -> None:
        self.on = False
        self._directory = directory
        self._run: Run | None = None
        self._quanta: Iterator[Any] = iter(())

    def start(self, base: Base) -> None:
        """See `Training`."""
        self._run = Run(self._directory, base, resolve(PROFILE), workload("intents", 400))
        self._quanta = self._run.records()

    def next_job(self) -> Iterator[None] | None:
        """See `Training`; one quantum at a time."""
        return self._one() if self.on else None

    def _one(self) -> Iterator[None]:
        next(self._quanta)
        yield


def adapter(base: Base, seed: int) -> Patches:
    """A random LoRA of rank 8 on all layers."""
    lora = Lora(
        base.bank.layers,
        rank=8,
        alpha=16,
        freeze_a=True,
        seed=seed,
        compute_dtype=base.compute_dtype,
        device=base.device,
    )
    noise = torch.randn(lora.parameters.shape, generator=torch.Generator().manual_seed(seed)) / 100
    lora.parameters.add_(noise.to(base.device))
    return Copies(lora, 1).hold()


def measured(device: Device, requests: list[Request]) -> dict[str, float]:
    """One wave of prompts: seconds to the first text, gaps between pieces, tokens a second, training's share."""
    spent, began = device.seconds["training"], time.perf_counter()
    askers = [Asking(request) for request in requests]
    futures: list[Future[Generation]] = [device.ask(asker) for asker in askers]
    tokens = sum(future.result().completion_tokens for future in futures)
    took = time.perf_counter() - began
    gaps = [later - earlier for asker in askers for earlier, later in pairwise(asker.times)]
    cuts = quantiles(gaps, n=100)
    return {
        "first_token_s": median(asker.times[0] - asker.asked_at for asker in askers),
        "gap_p50_s": cuts[49],
        "gap_p95_s": cuts[94],
        "gap_p99_s": cuts[98],
        "tokens_per_s": tokens / took,
        "training_share": (device.seconds["training"] - spent) / took,
    }


def one_by_one(base: Base, tokens: int, prompts: int) -> float:
    """Tokens a second of `transformers`' own generate, without an adapter."""
    ids = torch.tensor([encode_prompt(base, PROMPT, tokens)], device=base.device)
    began = time.perf_counter()
    made = 0
    with torch.inference_mode():
        for _ in range(prompts):
            found = base.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=base.tokenizer.pad_token_id,
            )
            made += found.shape[1] - ids.shape[1]
    return made / (time.perf_counter() - began)


def rounds(base: Base, concurrency: list[int], adapters: list[int], tokens: int, repeats: int) -> dict[str, Any]:
    """All arrangements, alternating."""
    prompt = encode_prompt(base, PROMPT, tokens)
    versions = [adapter(base, seed) for seed in range(max(adapters))]
    found: dict[tuple[bool, int, int], list[dict[str, float]]] = {}
    plain: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        training = Switched(Path(directory) / "run")
        device = Device(lambda: base, training, limits=Limits(), training_share=0.25)
        device.start()
        _wait_for(device)
        for number in range(repeats + 1):
            plain.append(device.submit(lambda base: one_by_one(base, tokens, 2)).result())
            for beside in (False, True):
                training.on = beside
                for count in concurrency:
                    for kinds in adapters:
                        few = [patches for patches, _ in zip(cycle(versions[:kinds]), range(count), strict=False)]
                        wave = [Request(prompt, Sampling(tokens), patches) for patches in few]
                        seen = measured(device, wave)
                        if number:  # the first round warms up
                            found.setdefault((beside, count, kinds), []).append(seen)
        training.on = False
        device.stop()
        device.join(60)
    rows = [
        {"training": beside, "concurrency": count, "adapters": kinds}
        | {name: median(one[name] for one in seen) for name in seen[0]}
        for (beside, count, kinds), seen in found.items()
    ]
    return {"machine": description(base.device), "rows": rows, "transformers_tokens_per_s": median(plain[1:])}


def figures(found: dict[str, Any]) -> dict[str, float]:
    """The two that are promised, where the arrangements for them were measured."""
    rows = {(row["training"], row["concurrency"], row["adapters"]): row for row in found["rows"]}
    told = {}
    one, eight = rows.get((False, 1, 1)), rows.get((False, 8, 8))
    if one and eight:
        told["throughput_ratio_8_adapters"] = eight["tokens_per_s"] / one["tokens_per_s"]
    busy = rows.get((True, 8, 8))
    if busy and eight:
        told["token_gap_p95_training_over_idle"] = busy["gap_p95_s"] / eight["gap_p95_s"]
    return told


def _wait_for(device: Device) -> None:
    while device.is_alive:
        try:
            _ = device.base
            return
        except NotReadyError:
            time.sleep(0.05)


def _table(found: dict[str, Any]) -> Table:
    names = ["training", "concurrency", "adapters", *list(found["rows"][0])[3:]]
    table = Table(*names, title=found["machine"])
    for row in found["rows"]:
        table.add_row(*[f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name]) for name in names])
    return table


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", type=_numbers, default=[1, 2, 4, 8, 16])
    parser.add_argument("--adapters", type=_numbers, default=[1, 8])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = rounds(load_base(), given.concurrency, given.adapters, given.tokens, given.repeats)
    found |= figures(found)
    console = Console()
    console.print(_table(found))
    console.print({name: value for name, value in found.items() if isinstance(value, float)})
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
