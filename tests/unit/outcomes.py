"""Profiles, parts and rows for objectives without a gradient."""

from typing import Any

from steerzo_edge.assemble import assemble
from steerzo_edge.data.examples import Completion, Dataset
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.decoding.generate import Sampling, generate
from steerzo_edge.model.base import Base
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import Profile, resolve
from steerzo_edge.training.parts import Parts
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.strategy import Probe
from tests.conftest import completion_rows

SUBSETS: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora", "rank": 4},
    "both-factors": {"kind": "lora", "rank": 2, "freeze_a": False},
    "top-layer": {"kind": "lora", "rank": 4, "last_layers": 1},
    "whole-top-layer": {"kind": "last-n-layers", "layers": 1},
    "blocks": {"kind": "lora", "rank": 4, "block_layers": 1},
}
# Far apart, so that answers differ.
PROBES = [Probe(Direction.seeded(seed), 0.4 * (-1) ** seed) for seed in range(4)]
NEW_TOKENS = 6


def profile_of(objective: dict[str, Any], subset: str = "lora", probes: int = 4, **changes: Any) -> Profile:
    document = {
        "subset": SUBSETS[subset],
        "objective": objective,
        "method": {"kind": "all-losses", "pool": 4, "epsilon": 0.3},
        "rule": {"kind": "sgd", "learning_rate": 0.05},
        "batch": {"examples": 5, "max_tokens": 64, "probes_per_forward": probes},
        "steps": 3,
        "evaluate": {"every": 2, "holdout": 0.2, "generate": 3},
    }
    return resolve(document, changes)


def built(base: Base, profile: Profile, rows: Dataset) -> tuple[Parts, Tokenized]:
    data = tokenized(base.tokenizer, base.context_length, profile, rows, None, seed=5)
    return assemble(base, profile, data, seed=5), data.train


def answered_rows(base: Base) -> Dataset:
    """Completions whose references share letters, and some words, with what the tiny base answers."""
    examples = []
    for index, example in enumerate(completion_rows().examples):
        assert isinstance(example, Completion)
        text = generate(base, example.prompt, None, Sampling(max_new_tokens=NEW_TOKENS, stop=("\n",))).text.strip()
        references = (text, "another") if index % 2 and text else ("else", f"not {text}")
        examples.append(Completion(example.prompt, " 7", references))
    return Dataset("completion", tuple(examples), tuple(range(1, len(examples) + 1)))
