"""Measures prompts that are answered together, with and without a job: first token, gaps, tokens a second.

    python -m benchmarks.serving [--concurrency 1,2,4,8,16,32] [--adapters 1,2,4,8,16,32] [--json FILE]
    python -m benchmarks.serving --base FILE.gguf [--llama-cpp PYTHON] [--json FILE]

Through the server's own device thread, without HTTP, on the bundled base and on a random Llama of 100 million
parameters, both in nf4. Every round takes each base and each arrangement once, other libraries included, so that
all run under the same conditions; figures are medians over rounds. `--adapters` are counted at 8 prompts at once
(or at as many as there are adapters, if those are more). Other libraries answer in one call, without streaming and
without a job: `transformers`' generate without adapters, and peft's batches of mixed adapters.

With `--base` answers of a real base are measured instead, beside `transformers` and llama.cpp: `serving_real.py`.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from benchmarks import serving_real
from benchmarks.machine import description
from benchmarks.serving_peers import Peers
from benchmarks.serving_plot import draw
from benchmarks.waves import TRAINING_SHARE, Stage
from steerzo_edge.decoding.decoder import Request
from steerzo_edge.decoding.generate import encode_prompt
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.lora import Lora
from steerzo_edge.model.sources.bundled import DIRECTORY
from steerzo_edge.model.subset import Copies

USUAL = 8
PROMPTS = (
    "Once upon a time there was a little dog who",
    "The rain had",
    "When the ship came home, the harbour was full of people, and every one of them wanted to know whether",
    "She opened the box and",
)
BASES = ("bundled", "llama-100m")
TOKENS = {"bundled": 64, "llama-100m": 24}


@contextmanager
def directory_of(name: str) -> Iterator[str]:
    """The directory of a base; a random one is made for as long as it is needed.

    Args:
        name: One of `BASES`.
    """
    if name == "bundled":
        yield str(DIRECTORY)
        return
    tokenizer = load_base(device="cpu").tokenizer
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=14,
        num_attention_heads=12,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    # Only tokens that are text by themselves are ever the likeliest: each then gives a piece to take the time of.
    silent = [token for token in range(len(tokenizer)) if not tokenizer.decode([token]).strip("\ufffd")]
    silent += tokenizer.all_special_ids
    model.lm_head.weight.data[silent] = 0
    with tempfile.TemporaryDirectory() as directory:
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        yield directory


def adapter(base: Base, seed: int) -> Lora:
    """A random LoRA of rank 8 on all linear layers, small enough that answers stay sentences."""
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
    return lora


class Arena:
    """One base, on our device thread and in other libraries.

    Args:
        name: One of `BASES`.
        stack: Closes what is opened here.
        adapters: How many there are.
        tokens: Of an answer.
    """

    def __init__(self, name: str, stack: ExitStack, adapters: int, tokens: int) -> None:
        path = stack.enter_context(directory_of(name))
        base = load_base(path)
        loras = [adapter(base, seed) for seed in range(adapters)]
        self.name = name
        self.parameters = sum(p.numel() for p in LlamaForCausalLM.from_pretrained(path).parameters())
        self._versions = [Copies(lora, 1).hold() for lora in loras]
        self._tokens = tokens
        # All different: equal prompts would be read only once.
        texts = islice(cycle(PROMPTS), 64)
        self._prompts = [encode_prompt(base, f"Day {day}. {text}", tokens) for day, text in enumerate(texts)]
        self._peers = Peers(path, base, loras[:USUAL])
        self._stage = Stage(base, Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run")
        stack.callback(self._stage.close)

    def ours(self, arrangements: Sequence[tuple[int, int]], *, training: bool) -> Iterator[dict[str, Any]]:
        """Each (prompts at once, adapters) once."""
        self._stage.switch(training=training)
        for concurrency, kinds in arrangements:
            versions = islice(cycle(self._versions[:kinds]), concurrency)
            sampling = Sampling(self._tokens)
            wave = [Request(p, sampling, v) for p, v in zip(self._prompts, versions, strict=False)]
            arrangement = {"training": training, "concurrency": concurrency, "adapters": kinds}
            yield arrangement | self._stage.wave(wave)
        self._stage.switch(training=False)

    def others(self) -> dict[str, float]:
        """Tokens a second of each."""
        eight = self._prompts[:USUAL]
        return {
            "transformers, one by one, no adapter": self._peers.transformers_alone(eight[:2], self._tokens),
            f"transformers, {USUAL} in a batch, no adapter": self._peers.transformers_together(eight, self._tokens),
            "peft, one prompt": self._peers.peft_together(eight[:1], self._tokens),
            f"peft, {USUAL} in a batch, {USUAL} adapters": self._peers.peft_together(eight, self._tokens),
        }


def measured(arenas: Sequence[Arena], arrangements: Sequence[tuple[int, int]], rounds: int) -> dict[str, Any]:
    """Medians over rounds, by base; a round before them warms up."""
    seen: dict[str, list[list[dict[str, Any]]]] = {arena.name: [] for arena in arenas}
    others: dict[str, list[dict[str, float]]] = {arena.name: [] for arena in arenas}
    for number in range(rounds + 1):
        for arena in arenas:
            some = arrangements if number else arrangements[:2]
            found = [row for training in (False, True) for row in arena.ours(some, training=training)]
            beside = arena.others()
            if number:
                seen[arena.name].append(found)
                others[arena.name].append(beside)
    return {
        arena.name: {
            "parameters": arena.parameters,
            "rows": [_median(same) for same in zip(*seen[arena.name], strict=True)],
            "others_tokens_per_s": _median(others[arena.name]),
        }
        for arena in arenas
    }


def _median(same: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: median(one[name] for one in same) for name in same[0]}


def figures(found: dict[str, Any]) -> dict[str, float]:
    """The figures that the documentation promises, where their arrangements were measured.

    Args:
        found: Of one base.
    """
    rows = {(row["training"], row["concurrency"], row["adapters"]): row for row in found["rows"]}
    told = {}
    one, eight = rows.get((False, 1, 1)), rows.get((False, 8, 8))
    if one and eight:
        told["throughput_ratio_8_adapters"] = eight["tokens_per_s"] / one["tokens_per_s"]
    busy = rows.get((True, 8, 8))
    if busy and eight:
        for name in ("gap_p50", "gap_p95", "gap_p99", "first_token"):
            told[f"token_{name}".replace("token_first", "first") + "_training_over_idle"] = (
                busy[f"{name}_s"] / eight[f"{name}_s"]
            )
        told["training_share"] = busy["training_share"]
    return told


def _table(title: str, found: dict[str, Any]) -> Table:
    table = Table("", "prompts", "adapters", "first token", "gap p50", "p95", "p99", "tokens/s", "training")
    table.title = title
    for row in found["rows"]:
        times = [f"{1000 * row[name]:.0f} ms" for name in ("first_token_s", "gap_p50_s", "gap_p95_s", "gap_p99_s")]
        kind = "training" if row["training"] else "idle"
        count, kinds = str(row["concurrency"]), str(row["adapters"])
        table.add_row(kind, count, kinds, *times, f"{row['tokens_per_s']:.0f}", f"{row['training_share']:.2f}")
    for name, rate in found["others_tokens_per_s"].items():
        table.add_row(name, "", "", "", "", "", "", f"{rate:.0f}", "")
    return table


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", default=",".join(BASES))
    parser.add_argument("--concurrency", type=_numbers, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--adapters", type=_numbers, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--tokens", type=int, help="of an answer; by default as the base's speed allows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="a .png or .svg")
    parser.add_argument("--base", help="a GGUF file: measures answers of this base alone")
    parser.add_argument("--llama-cpp", help="with --base: a Python that has the package xllamacpp")
    given = parser.parse_args()
    if given.base:
        serving_real.run(given.base, given.llama_cpp, given.rounds, given.tokens or 64, given.json)
        return
    arrangements = [(count, min(count, USUAL)) for count in given.concurrency]
    arrangements += [(max(kinds, USUAL), kinds) for kinds in given.adapters]
    arrangements = list(dict.fromkeys(arrangements))
    disable_progress_bar()
    console = Console(width=110)
    with ExitStack() as stack:
        arenas = [
            Arena(name, stack, max([*given.adapters, USUAL]), given.tokens or TOKENS[name])
            for name in given.bases.split(",")
        ]
        found = measured(arenas, arrangements, given.rounds)
    told: dict[str, Any] = {}
    for name, one in found.items():
        one["figures"] = figures(one)
        console.print(_table(f"{name}, {one['parameters'] / 1e6:.1f} million parameters", one))
        console.print(one["figures"])
        told = told or dict(one["figures"])
    told |= {"machine": description(torch.device("cpu")), "rounds": given.rounds}
    told |= {"configured_training_share": TRAINING_SHARE, "bases": found}
    if given.json:
        given.json.write_text(json.dumps(told, indent=1) + "\n")
    if given.plot:
        draw(found, given.plot)


if __name__ == "__main__":
    main()
