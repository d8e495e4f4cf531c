"""Estimated memory of a run against its measured peak, over a grid of shapes, each case in a fresh process.

    python -m benchmarks.estimate_error [--only WORD] [--json FILE] [--rewrite docs/estimate.md]
    python -m benchmarks.estimate_error --measured FILE [FILE ...]      # estimates anew, peaks of earlier runs

The estimate is made from the config and the rows alone. The measurement is a run of three steps, with evaluations,
on random weights of four families: what loading leaves, and the highest point of the run, above the same process
before the base was loaded (a much smaller base has run once by then, so that libraries are there). On the CPU of
the resident set, on CUDA of torch's allocator.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, OPTConfig, PretrainedConfig, Qwen2Config

from benchmarks.machine import description
from steerzo_edge.assemble import assemble
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.reading import read_rows
from steerzo_edge.estimate import Needs, anatomy, estimate, load_config, work_of
from steerzo_edge.model.load import default_device, load_base, load_tokenizer
from steerzo_edge.run_data import Data, split, tokenized
from steerzo_edge.settings.profile import Profile, resolve
from steerzo_edge.training.loop import finetune

ROWS = 64
MIB = 1 << 20
CONTEXT = 1024
START, END = "<!-- estimate-error -->", "<!-- /estimate-error -->"
SUBSETS: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora", "rank": 8},
    "lora, A too": {"kind": "lora", "rank": 16, "freeze_a": False},
    "top 2 layers": {"kind": "lora", "rank": 8, "last_layers": 2},
    "core": {"kind": "lora-xs", "rank": 16},
    "last layer whole": {"kind": "last-n-layers", "layers": 1},
    "blocks of 2": {"kind": "lora", "rank": 8, "block_layers": 2},
}


@dataclass(frozen=True, slots=True)
class Case:
    """One run.

    Args:
        family: A key of `FAMILIES`.
        width: Of the residual stream.
        layers: Decoder layers.
        quantization: How the base is kept.
        subset: A key of `SUBSETS`.
        examples: Rows a step.
        words: Of a row, about.
        pool: Probes a step.
        stacked: Probes in one forward.
        targets: Whether rows are completions, learned over the whole vocabulary; else they are labelled.
        rule: The update rule.
    """

    family: str = "llama"
    width: int = 512
    layers: int = 6
    quantization: str = "nf4"
    subset: str = "lora"
    examples: int = 8
    words: int = 60
    pool: int = 4
    stacked: int = 4
    targets: bool = False
    rule: str = "momentum"

    @property
    def title(self) -> str:
        """In a few words."""
        rows = f"{self.examples} x {self.words} words" + (", completions" if self.targets else "")
        probes = f"{self.pool} probes, {self.stacked} at once"
        return f"{self.family} {self.width} x {self.layers}, {self.quantization}, {self.subset}, {rows}, {probes}"


CASES = (
    Case(),
    Case(quantization="int8"),
    Case(quantization="none"),
    Case(family="qwen2"),
    Case(family="qwen2", quantization="none", targets=True),
    Case(family="gpt2"),
    Case(family="gpt2", quantization="int8", targets=True),
    Case(family="opt", quantization="int8"),
    Case(family="opt", quantization="none", subset="top 2 layers"),
    Case(stacked=1),
    Case(stacked=1, quantization="none", words=200, examples=4),
    Case(pool=8, stacked=8),
    Case(pool=8, stacked=8, words=150, examples=8),
    Case(words=300, examples=8),
    Case(family="gpt2", words=300, examples=8, stacked=2),
    Case(family="opt", words=200, examples=16, stacked=1),
    Case(subset="lora, A too", rule="adam"),
    Case(subset="top 2 layers", words=150, examples=16),
    Case(subset="core", family="qwen2"),
    Case(subset="last layer whole", quantization="none"),
    Case(subset="last layer whole", family="opt", stacked=1),
    Case(subset="blocks of 2", family="qwen2", words=120),
    Case(width=768, layers=12, quantization="nf4"),
    Case(width=768, layers=12, quantization="none", family="qwen2", stacked=1),
    Case(width=256, layers=4, examples=16, words=100, pool=8, stacked=8),
    Case(width=256, layers=4, examples=32, words=30, targets=True),
)
# Shapes that the estimate's two fitted numbers have not seen.
OTHERS = (
    Case(width=384, layers=8, examples=16, words=24, pool=16, stacked=16),
    Case(width=384, layers=8, examples=16, words=120, stacked=1),
    Case(family="qwen2", width=640, layers=8, quantization="int8", words=40),
    Case(family="gpt2", width=384, layers=8, quantization="none", words=90, stacked=2),
    Case(family="opt", width=768, layers=8, examples=4, words=100, rule="adam"),
    Case(family="qwen2", width=1024, layers=4, subset="top 2 layers", words=80, targets=True),
)


def config_of(case: Case) -> PretrainedConfig:
    """The shape of a case's base."""
    heads, width, layers = max(4, case.width // 64), case.width, case.layers
    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "vocab_size": 8192}
    gated: dict[str, Any] = {
        "hidden_size": width, "intermediate_size": width * 11 // 4, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": heads // 2, "max_position_embeddings": CONTEXT,
    }  # fmt: skip
    makers: dict[str, Callable[[], PretrainedConfig]] = {
        "llama": lambda: LlamaConfig(**ends, **gated),
        "qwen2": lambda: Qwen2Config(**ends, **gated, tie_word_embeddings=True),
        "gpt2": lambda: GPT2Config(**ends, n_embd=width, n_layer=layers, n_head=heads, n_positions=CONTEXT),
        "opt": lambda: OPTConfig(
            **ends, hidden_size=width, ffn_dim=4 * width, num_hidden_layers=layers, num_attention_heads=heads,
            word_embed_proj_dim=width, max_position_embeddings=CONTEXT,
        ),
    }  # fmt: skip
    return makers[case.family]()


def profile_of(case: Case, path: str) -> Profile:
    """The settings of a case."""
    return resolve(
        {
            "model": {"id": path, "quantization": case.quantization},
            "subset": SUBSETS[case.subset],
            "method": {"kind": "all-losses", "pool": case.pool, "epsilon": 0.001},
            "rule": {"kind": case.rule, "learning_rate": 0.001},
            "batch": {"examples": case.examples, "probes_per_forward": case.stacked, "max_tokens": CONTEXT},
            "steps": 3,
            "evaluate": {"every": 2},
        }
    )


def rows_of(case: Case) -> Dataset:
    """Rows of random words; lengths differ by up to a half."""
    generator = torch.Generator().manual_seed(0)
    words = ("the", "music", "play", "light", "morning", "where", "weather", "call", "kitchen", "remind")
    texts = []
    for _ in range(ROWS):
        count = int(case.words * (0.75 + 0.5 * float(torch.rand(1, generator=generator))))
        chosen = torch.randint(len(words), (count,), generator=generator).tolist()
        texts.append(" ".join(words[index] for index in chosen))
    if case.targets:
        return read_rows([{"prompt": text, "completion": f" {text[: len(text) // 4]}"} for text in texts])
    return read_rows([{"text": text, "label": ("yes", "no")[n % 2]} for n, text in enumerate(texts)])


def estimated(case: Case, path: str, device: str) -> Needs:
    """Bytes from the config and the rows alone."""
    profile, config = profile_of(case, path), load_config(path)
    train, judged = split(rows_of(case), profile, 0)
    data = tokenized(load_tokenizer(path), CONTEXT, profile, train, judged, 0)
    assert data.validation is not None
    work = work_of(profile, CONTEXT, data.train, data.validation)
    return estimate(profile, anatomy(config), work, device=device).zeroth_order


def measured(case: Case, path: str) -> dict[str, int]:
    """Bytes above this process' own, after loading and at the highest point of the run."""
    small = Case(**(asdict(case) | {"width": 128, "layers": 2, "examples": 2, "words": 8}))
    with tempfile.TemporaryDirectory() as directory:
        save(small, Path(directory))
        _run(small, directory, lambda: None)
    before = _now()
    found: dict[str, int] = {}

    def loaded() -> None:
        found["loaded"] = _now() - before
        _reset()

    _run(case, path, loaded)
    found["peak"] = _peak() - before
    return found


def save(case: Case, directory: Path) -> None:
    """Writes a case's base with random weights."""
    model = AutoModelForCausalLM.from_config(config_of(case), dtype=torch.bfloat16)
    model.save_pretrained(directory)
    load_tokenizer().save_pretrained(directory)


def main() -> None:
    """Measures and prints; or, as a child, measures one case and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose title has this in it")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rewrite", type=Path, help="a document whose table is put in anew")
    parser.add_argument("--measured", type=Path, nargs="+", help="take the peaks from these files of --json")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        case, path = Case(**json.loads(options.child[0])), options.child[1]
        sys.stdout.write(json.dumps(measured(case, path)) + "\n")
        return
    known = [json.loads(path.read_text()) for path in options.measured or ()]
    grids = (("fitted", CASES), ("others", OTHERS))
    cases = [(name, case) for name, grid in grids for case in grid if options.only in case.title]
    rows = [{"grid": name, **row(case, known)} for name, case in cases]
    machine = known[0]["machine"] if known else description(torch.device(default_device()))
    Console(width=150).print(machine, _table(rows), summary(rows), sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine, "cases": rows}, indent=1) + "\n")
    if options.rewrite is not None:
        text = options.rewrite.read_text()
        head, tail = text.split(START)[0], text.split(END)[1]
        options.rewrite.write_text(f"{head}{START}\n{machine}.\n\n{summary(rows)}\n\n{markdown(rows)}\n{END}{tail}")


def row(case: Case, known: list[dict[str, Any]]) -> dict[str, Any]:
    """One case: what is estimated, and what was measured.

    Args:
        case: The run.
        known: Earlier results; without any it is measured in a process of its own.
    """
    with tempfile.TemporaryDirectory() as path:
        save(case, Path(path))
        needs = estimated(case, path, default_device())
        found = _peaks(case, known) if known else [_in_child(case, path)]
    error = needs.total / fmean(found) - 1
    return {
        "title": case.title,
        **asdict(case),
        "parts": dict(needs),
        "estimated": needs.total,
        "peaks": found,
        "error": error,
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of a document."""
    lines = ["| run | estimated MiB | measured MiB | error |", "| --- | ---: | ---: | ---: |"]
    for row in rows:
        peaks = ", ".join(f"{peak / MIB:,.1f}" for peak in row["peaks"])
        lines.append(f"| {row['title']} | {row['estimated'] / MIB:,.1f} | {peaks} | {row['error']:+.1%} |")
    return "\n".join(lines)


def _peaks(case: Case, known: list[dict[str, Any]]) -> list[int]:
    found = [row for result in known for row in result["cases"] if row["title"] == case.title]
    return [peak for row in found for peak in row["peaks"]]


def _in_child(case: Case, path: str) -> int:
    command = [sys.executable, "-m", "benchmarks.estimate_error", "--child", json.dumps(asdict(case)), path]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(json.loads(done.stdout.splitlines()[-1])["peak"])


def summary(rows: list[dict[str, Any]]) -> str:
    """What the errors come to, of both grids."""
    said = []
    for name, words in (("fitted", "Of the grid"), ("others", "Of shapes that nothing was fitted to")):
        errors = [abs(row["error"]) for row in rows if row["grid"] == name]
        if errors:
            within = sum(error <= 0.15 for error in errors)
            middle, worst = f"{median(errors):.1%}", f"{max(errors):.1%}"
            said.append(
                f"{words}, {within} of {len(errors)} are within 15 %; median error {middle}, largest {worst}."
            )
    spread = [max(row["peaks"]) / min(row["peaks"]) - 1 for row in rows if len(row["peaks"]) > 1]
    if spread:
        said.append(
            f"{len(spread)} were measured more than once: the largest peak is above the smallest by a median of "
            f"{median(spread):.1%}, at most {max(spread):.1%}."
        )
    return " ".join(said)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("run")
    for title in ("weights", "estimated", "peak", "error"):
        table.add_column(title, justify="right")
    for row in rows:
        sizes = (row["parts"]["base weights"], row["estimated"], fmean(row["peaks"]))
        table.add_row(row["title"], *(f"{size / MIB:,.1f}" for size in sizes), f"{row['error']:+.1%}")
    return table


def _run(case: Case, path: str, loaded: Callable[[], None]) -> None:
    """Loads, then runs three steps."""
    profile = profile_of(case, path)
    base = load_base(path, quantization=profile.model.quantization, compute_dtype=profile.model.dtype)
    train, judged = split(rows_of(case), profile, 0)
    data = tokenized(base.tokenizer, CONTEXT, profile, train, judged, 0)
    loaded()
    for _ in finetune(assemble(base, profile, Data(data.train, data.validation), seed=0)):
        pass


def _now() -> int:
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def _reset() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew


def _peak() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _status("VmHWM")


def _status(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])


if __name__ == "__main__":
    main()
