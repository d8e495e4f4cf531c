"""Every family keeps every promise: losses, answers, adapters, files, in every kind of quantization.

One line of the matrix in docs/results/families.md for each family, one column for each promise; the table is
printed at the end of the tests (`tests/contracts/conftest.py`).
"""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PreTrainedModel, T5Config

from steerzo_edge.decoding.answer import PartialAnswer
from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.errors import BaseModelError
from steerzo_edge.export.gguf_adapter import export_gguf_adapter
from steerzo_edge.export.gguf_model import export_gguf
from steerzo_edge.model.adapter_file import load_adapter, save_adapter
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.lora import Lora
from steerzo_edge.model.merged import export_merged
from steerzo_edge.model.patches import Patches
from steerzo_edge.model.quantization import Quantization
from tests.conftest import byte_tokenizer
from tests.contracts.conftest import LOADS
from tests.contracts.pairwise import Factors, covering
from tests.contracts.test_same_losses import SAVINGS, SUBSETS, built, compare
from tests.families import FAMILIES, FURTHER, REFUSED, saved, seeded

Noted = Callable[..., None]
Loaded = Callable[..., Base]
PROMPTS = ("good and warm", "bad", "so it was that nobody came to the house by the sea, and then", "x")
NEW = 12
# Mistral's files are written where attention has no window, which the model of the family here has.
GGUF = ("llama", "smollm-shape", "qwen2", "qwen3", "gpt2")
WAYS = {
    "one by one": ("sequential", "all-layers", "completion"),
    "stacked": ("stacked", "both-factors", "phrases"),
    "in chunks": ("stacked-in-chunks", "top-layer", "single-token"),
    "prefix on disk": ("prefix-on-disk", "lora-xs-blocks-of-the-top", "multiple-choice"),
    "prefix once a batch": ("prefix-once-a-batch", "whole-top-layer", "phrases"),
}
KINDS: tuple[Quantization, ...] = ("none", "nf4", "int8")
# All pairs of a family, a quantization and a way of computing: 70 cases of 210. Dropped are the three together;
# one family meets all of them in `test_same_losses.py`.
WAY_FACTORS: Factors = {"family": FAMILIES, "quantization": KINDS, "way": WAYS}
OF_FAMILIES = covering(WAY_FACTORS)
CASES = [(family, kind) for family in FAMILIES for kind in KINDS]
CASES += [(family, "none") for family in FURTHER]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The directory of a family's model, with its embeddings tied or not as the config says or as asked."""
    made: dict[tuple[str, bool | None], Path] = {}

    def path(family: str, tied: bool | None = None) -> Path:
        if (family, tied) not in made:
            config = deepcopy((FAMILIES | FURTHER | REFUSED)[family])
            if tied is not None:
                config.tie_word_embeddings = tied
            made[family, tied] = saved(config, tmp_path_factory.mktemp(family))
        return made[family, tied]

    return path


@pytest.fixture(scope="module")
def loaded(paths: Callable[..., Path]) -> Loaded:
    made: dict[tuple[str, Quantization, bool | None], Base] = {}

    def load(family: str, quantization: Quantization = "none", tied: bool | None = None) -> Base:
        key = family, quantization, tied
        if key not in made:
            made[key] = load_base(
                str(paths(family, tied)), quantization=quantization, compute_dtype=torch.float32, device="cpu"
            )
        return made[key]

    return load


def adapter_of(base: Base, seed: int, rank: int = 4, last: int | None = None) -> Lora:
    """A LoRA on all linear layers whose A and B are random: it changes every answer."""
    names = list(base.bank.layers)[-(last or 0) :]
    lora = Lora(
        {name: base.bank.layers[name] for name in names},
        rank=rank, alpha=2 * rank, freeze_a=False, seed=seed, compute_dtype=torch.float32,
    )  # fmt: skip
    lora.parameters.add_(0.2 * torch.randn(lora.parameters.shape, generator=seeded(seed)))
    return lora


def patches_of(lora: Lora) -> Patches:
    return lora.patches(lora.parameters.unsqueeze(0))


def answered(base: Base, requests: list[Request]) -> list[tuple[int, ...]]:
    """The tokens of each answer, decoded together."""
    made: list[PartialAnswer] = []

    class Kept(PartialAnswer):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steerzo_edge.decoding.row.PartialAnswer", Kept)
        decoder = Decoder(base, prefill_tokens=16)
        for request in requests:
            decoder.add(request)
        while len(decoder):
            decoder.step()
    return [tuple(answer.tokens) for answer in made]


def request(base: Base, prompt: str, adapter: Patches | None = None) -> Request:
    return Request(tuple(base.tokenizer.encode(prompt)), Sampling(max_new_tokens=NEW), adapter)


def generated(model: PreTrainedModel, tokens: tuple[int, ...]) -> tuple[int, ...]:
    """What `transformers` generates, greedily."""
    ids = torch.tensor([tokens])
    with torch.inference_mode():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False)
    return tuple(out[0, len(tokens) :].tolist())


@pytest.mark.parametrize(("family", "quantization"), CASES)
def test_losses(loaded: Loaded, noted: Noted, tmp_path: Path, family: str, quantization: Quantization) -> None:
    """All oracles, with the prefix kept, kept on disk, computed once a batch, and without one."""
    noted(family, f"losses {quantization}")
    base = loaded(family, quantization)
    ways = [way for case, kind, way in OF_FAMILIES if (case, kind) == (family, quantization)]
    assert ways or family in FURTHER
    for way in ways or WAYS:
        saving, subset, rows = WAYS[way]
        compare(base, *built(base, rows, SUBSETS[subset], SAVINGS[saving], tmp_path / way), steps=range(1))


@pytest.mark.parametrize(("family", "quantization"), CASES)
def test_answers(
    loaded: Loaded, paths: Callable[..., Path], noted: Noted, family: str, quantization: Quantization
) -> None:
    """Token for token what `transformers` generates, from a short prompt and from one read in chunks."""
    noted(family, f"answers {quantization}")
    base = loaded(family, quantization)
    # An unquantized model is one that this project has not touched.
    model = base.model
    if quantization == "none":
        model = AutoModelForCausalLM.from_pretrained(paths(family), dtype=torch.float32).eval()
    for prompt in PROMPTS:
        asked = request(base, prompt)
        assert answered(base, [asked]) == [generated(model, asked.tokens)]


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_together(loaded: Loaded, noted: Noted, family: str) -> None:
    """Rows with adapters of their own (two ranks, other layers, a whole layer, none) answer as they do alone."""
    noted(family, "rows together")
    base = loaded(family)
    adapters = [patches_of(adapter_of(base, 1)), None, patches_of(adapter_of(base, 2, rank=2, last=3))]
    asked = [request(base, prompt, adapter) for prompt in PROMPTS for adapter in adapters]
    together = answered(base, asked)
    assert together == [answered(base, [one])[0] for one in asked]
    assert len(set(together)) > len(PROMPTS)
    # And alone means with the adapter: the model's own forward under the same patches.
    with base.bank.route(adapters[0] or {}):
        assert together[0] == generated(base.model, asked[0].tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_adapter_files(
    loaded: Loaded, paths: Callable[..., Path], noted: Noted, tmp_path: Path, family: str
) -> None:
    """Written, read again, and read by peft: the same logits."""
    noted(family, "adapter files")
    base = loaded(family)
    lora = adapter_of(base, 3)
    save_adapter(tmp_path, lora, base)
    rows = torch.tensor([base.tokenizer.encode(PROMPTS[2])])
    logits = []
    for patches in ({}, patches_of(lora), load_adapter(tmp_path, base)):
        with torch.inference_mode(), base.bank.route(patches):
            logits.append(base.model(rows).logits)
    bare, ours, again = logits
    assert torch.equal(ours, again)
    plain = AutoModelForCausalLM.from_pretrained(paths(family), dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path).eval()
    with torch.inference_mode():
        # Float32 sums in another order: peft adds the adapter to a finished product.
        torch.testing.assert_close(theirs(rows).logits, ours, rtol=1e-4, atol=1e-4)
    assert float((ours - bare).abs().max()) > 0.1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_embeddings(loaded: Loaded, noted: Noted, tmp_path: Path, family: str, tied: bool) -> None:
    """The head shares the embedding's weight, or has its own, whatever is usual in the family."""
    noted(family, "tied" if tied else "untied")
    base = loaded(family, "nf4", tied)
    embedding, head = base.model.get_input_embeddings().weight, base.model.get_output_embeddings().weight
    assert (embedding.data_ptr() == head.data_ptr()) == tied
    assert torch.equal(embedding, head) == tied
    compare(base, *built(base, "phrases", SUBSETS["top-layer"], SAVINGS["stacked"], tmp_path), steps=range(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_merged(loaded: Loaded, paths: Callable[..., Path], noted: Noted, tmp_path: Path, family: str) -> None:
    """A checkpoint that `transformers` loads by itself, and that says what peft's merged model says."""
    noted(family, "merged export")
    save_adapter(tmp_path / "adapter", adapter_of(loaded(family), 4), loaded(family))
    found = export_merged(tmp_path / "adapter", tmp_path / "out", str(paths(family)))
    assert found.holds
    plain = AutoModelForCausalLM.from_pretrained(paths(family), dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter").merge_and_unload().state_dict()
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        # Rounded to bf16 twice: the factors, and the sum.
        assert torch.allclose(tensor.float(), theirs[name], rtol=2**-7, atol=2**-7), name


@pytest.mark.parametrize("family", FAMILIES)
def test_gguf(loaded: Loaded, paths: Callable[..., Path], noted: Noted, tmp_path: Path, family: str) -> None:
    """A file that reads back (looked into in test_gguf.py), or a refusal in words."""
    written = family.startswith(GGUF)
    noted(family, "gguf export", "yes" if written else "no")
    save_adapter(tmp_path / "adapter", adapter_of(loaded(family), 4), loaded(family))
    for export, name in ((export_gguf_adapter, "adapter.gguf"), (export_gguf, "model.gguf")):
        if written:
            export(tmp_path / "adapter", tmp_path / name, str(paths(family)))
            continue
        with pytest.raises(BaseModelError) as refusal:
            export(tmp_path / "adapter", tmp_path / name, str(paths(family)))
        assert "merged" in refusal.value.hint
    assert len(list(tmp_path.glob("*.gguf"))) == (2 if written else 0)


@pytest.mark.parametrize("family", REFUSED)
def test_what_does_not_work_is_refused_in_words(loaded: Loaded, noted: Noted, family: str) -> None:
    noted(family, LOADS, "no")
    with pytest.raises(BaseModelError) as refusal:
        loaded(family)
    assert REFUSED[family].model_type in str(refusal.value)
    assert "models.md" in refusal.value.hint


def test_an_encoder_and_decoder_is_refused_in_words(tmp_path: Path) -> None:
    T5Config(vocab_size=64, d_model=32, num_layers=1).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(BaseModelError, match="T5"):
        load_base(str(tmp_path), quantization="none", device="cpu")
