"""The runs of `benchmarks.estimate_error`: shapes, settings and rows of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GPT2Config, LlamaConfig, OPTConfig, PretrainedConfig, Qwen2Config

from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.reading import read_rows
from steerzo_edge.settings.profile import Profile, resolve

ROWS = 64
CONTEXT = 1024
SUBSETS: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora", "rank": 8},
    "lora, A too": {"kind": "lora", "rank": 16, "freeze_a": False},
    "top 2 layers": {"kind": "lora", "rank": 8, "last_layers": 2},
    "lora-xs": {"kind": "lora-xs", "rank": 16},
    "last layer whole": {"kind": "last-n-layers", "layers": 1},
    "blocks of 2": {"kind": "lora", "rank": 8, "block_layers": 2},
}


@dataclass(frozen=True, slots=True)
class Case:
    """One run.

    Args:
        family: "llama", "qwen2", "gpt2" or "opt".
        width: Of the residual stream.
        layers: Decoder layers.
        quantization: How the base is kept.
        subset: A key of `SUBSETS`.
        examples: Rows in a batch.
        words: Words in a row, about.
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
        """The case in a few words."""
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
    Case(subset="lora-xs", family="qwen2"),
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
