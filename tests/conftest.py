"""A tiny random Llama, a byte-level tokenizer, a few rows: everything a test needs, without a download."""

import gc
import os
from collections.abc import Callable
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["STEERZO_MAX_PACKED_BYTES"] = "0"  # tests of packed copies have directories of their own

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from steerzo_edge.data.examples import Completion, Dataset, Labelled, MultipleChoice
from steerzo_edge.data.task import Task
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.quantization import Quantization
from steerzo_edge.seeds import step_seeds
from steerzo_edge.training.parts import Parts
from steerzo_edge.zo.oracle import converse
from steerzo_edge.zo.strategy import Estimate

SPECIAL = ("<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>")
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
Loader = Callable[..., Base]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and a handful of special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: index for index, piece in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        chat_template=CHAT_TEMPLATE,
    )


# Files that take longest, begun first: one that is begun last keeps one process busy while the others have ended.
SLOW = (
    "real/test_real_base.py",
    "docs/test_commands.py",
    "contracts/test_families.py",
    "contracts/test_same_losses.py",
    "browser/test_views.py",
    "server/test_chaos.py",
    "server/test_adapters.py",
    "unit/test_cli.py",
    "unit/test_hub.py",
    "server/test_survival.py",
    "unit/test_exporting.py",
    "unit/test_export_apart.py",
    "contracts/test_engine.py",
    "unit/test_quality.py",
    "unit/test_benchmarks.py",
    "unit/test_outcomes.py",
    "unit/test_streaming.py",
    "unit/test_gguf_base.py",
    "server/test_schema.py",
    "unit/test_run.py",
    "unit/test_run_rewinds.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of slow files first; the order is kept within a file, and among the other files."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: places.get(item.path, len(SLOW)))


def pytest_collection_finish() -> None:
    """Has the garbage collector pass over what is imported: half a million objects, a quarter of a second."""
    # Each load of a base collects once; that was most of a tiny base's time.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the tiny model, as `load_base` takes it."""
    path = tmp_path_factory.mktemp("tiny")
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        tie_word_embeddings=False,
    )
    generator = torch.Generator().manual_seed(0)
    model = LlamaForCausalLM(config)
    for name, tensor in model.state_dict().items():
        if "norm" not in name:
            # Larger than usual, so that a random model answers differently to different prompts.
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2.0 / tensor.shape[-1] ** 0.5))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Loader:
    """Loads the tiny base, each kind once; its bank must be left without an active route."""
    loaded: dict[tuple[Quantization, torch.dtype], Base] = {}

    def load(quantization: Quantization = "none", dtype: torch.dtype = torch.float32) -> Base:
        key = (quantization, dtype)
        if key not in loaded:
            loaded[key] = load_base(str(tiny_path), quantization=quantization, compute_dtype=dtype, device="cpu")
        assert not loaded[key].bank.active
        return loaded[key]

    return load


@pytest.fixture(scope="session")
def real_base_file() -> Path:
    """A real pretrained model, SmolLM2-135M-Instruct in GGUF (Q4_1); tests that use it are marked `real`."""
    path = Path(__file__).parents[1] / ".real" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not path.is_file():
        pytest.skip("there is no real base: `make real-base` fetches it")
    return path


@pytest.fixture(scope="session")
def bundled() -> Base:
    """The base that ships with the package, in nf4."""
    return load_base(device="cpu")


def first_estimate(parts: Parts) -> tuple[Estimate, int]:
    """What the first step of a run would learn, and how many forwards it takes."""
    assert parts.epsilon is not None
    dialogue = parts.strategy(parts.epsilon).propose(step_seeds(parts.seed, 0), {})
    return converse(dialogue, parts.oracle, 0, parts.blocks.of(0).index)


def labelled_rows(count: int = 20) -> Dataset:
    """Sentences of two classes, of different lengths."""
    texts = ["good and warm", "bad", "cold, wet and bad", "so good"]
    examples = [Labelled(f"{texts[i % 4]} {i}", "no" if "bad" in texts[i % 4] else "ok") for i in range(count)]
    task = Task(template="{text} => ", options={"ok": "y", "no": "n"})
    return Dataset("classification", tuple(examples), tuple(range(1, count + 1)), task)


def phrase_rows(count: int = 20) -> Dataset:
    """The same rows with options of several tokens, of different lengths."""
    task = Task(template="{text} =>", options={"ok": "yes, it is", "no": "never"})
    rows = labelled_rows(count)
    return Dataset(rows.format, rows.examples, rows.lines, task)


def completion_rows(count: int = 20) -> Dataset:
    """Prompts and completions of different lengths."""
    examples = [Completion(f"item {'x' * (i % 7)}:", f" {i} and {'y' * (i % 5)}") for i in range(count)]
    return Dataset("completion", tuple(examples), tuple(range(1, count + 1)))


def question_rows(count: int = 20) -> Dataset:
    """Prompts with choices of their own: two to five of them, of one token or many."""
    words = [" it rained", "!", " nobody", " so", " why"]
    examples = [
        MultipleChoice(f"day {'x' * (i % 6)}{i}", tuple(words[i % 5 :] + words[: i % 3])[: 2 + i % 4], (i % 2,))
        if i % 5 < 3
        else MultipleChoice(f"and {i}:", (" no", " yes", "?"), (2, 0))
        for i in range(count)
    ]
    return Dataset("multiple-choice", tuple(examples), tuple(range(1, count + 1)))


DATASETS = {
    "single-token": labelled_rows,
    "phrases": phrase_rows,
    "completion": completion_rows,
    "multiple-choice": question_rows,
}
