"""Merges an adapter into its base: one `transformers` checkpoint in 16 bits, checked before it is kept.

W + scale * B A is computed in float32 and rounded once, to the base's own 16-bit type. An adapter is never merged
into 4-bit weights, because its change is smaller than their rounding. So the base is loaded again, unquantized;
that takes two bytes a weight, on the CPU.

The check: on a few prompts, the merged model must make the same predictions as base and adapter unmerged. Both
compute in 16 bits, so they differ by rounding; `Agreement.bound` says how far they may differ.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.tokens import prompt_tokens
from steerzo_edge.errors import AdapterFileError, BaseModelError, ConflictError, StorageError
from steerzo_edge.model.adapter_file import load_adapter
from steerzo_edge.model.bank import BankLinear
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base, quiet
from steerzo_edge.model.older_readers import add_old_settings
from steerzo_edge.model.patches import DoraPatch, LoraPatch, Patch, Patches, WeightPatch
from steerzo_edge.model.routes import uniform
from steerzo_edge.model.sources.registry import source_of
from steerzo_edge.model.weights.none import is_transposed
from steerzo_edge.storage.files import sync_directory

PROMPTS: Final = (
    "Once upon a time there was a small house at the edge of the forest",
    "play some jazz in the kitchen",
    "The capital of France is Paris. The capital of Italy is",
    "def add(a, b):\n    return a + b\n",
)
# Nats a token. Two ways to round 16-bit products differ by less. A wrong merge differs by more than a tenth of the
# adapter's effect, unless the adapter has next to no effect.
ROUNDING_NATS: Final = 0.005
SHARE: Final = 0.1
_SIXTEEN_BITS: Final = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well the merged model agrees with base and adapter unmerged, in nats a token.

    Args:
        effect: Mean divergence of the bare base from base and adapter: the effect of the adapter.
        error: Mean divergence of the merged model from base and adapter: the error of merging.
    """

    effect: float
    error: float

    @property
    def bound(self) -> float:
        """The largest error at which a merged model is kept."""
        return max(ROUNDING_NATS, SHARE * self.effect)

    @property
    def holds(self) -> bool:
        """Whether the merged model may be kept."""
        return self.error <= self.bound  # false for nan


def export_merged(adapter: Path, out: Path, name: str, *, revision: str | None = None) -> Agreement:
    """Writes base and adapter as one checkpoint, with its tokenizer.

    Args:
        adapter: A PEFT directory.
        out: Directory of the checkpoint; must not exist, or be empty.
        name: The base, as `load_base` takes it.
        revision: Commit, tag or branch of a hub model.

    Raises:
        ConflictError: If `out` exists and is not empty, or the merged model does not agree; nothing is kept then.
        BaseModelError: If the base cannot be loaded in 16 bits.
        AdapterFileError: If the adapter does not fit it.
        OSError: If the disk is full or fails.
        StorageError: As OSError.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConflictError(f"{str(out)!r} exists already", hint="Name a new directory.")
    base, found = load_merged(adapter, name, revision)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _save(base, partial)
        released_tokenizer(name, revision).save_pretrained(partial)
        add_old_settings(partial)
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync_directory(out.parent)
    return found


def load_merged(adapter: Path, name: str, revision: str | None = None) -> tuple[Base, Agreement]:
    """Loads a base in 16 bits and merges an adapter into it; its model has no adapter bank any more.

    Args:
        adapter: A PEFT directory.
        name: The base, as `load_base` takes it.
        revision: Commit, tag or branch of a hub model.

    Raises:
        ConflictError: If the merged model does not agree with base and adapter.
        BaseModelError: If the base cannot be loaded in 16 bits.
        AdapterFileError: If the adapter does not fit it.
    """
    base = load_sixteen_bits(name, revision)
    found = merge(base, load_adapter(adapter, base))
    if not found.holds:
        raise ConflictError(
            f"the merged model differs from base and adapter by {found.error:.4f} nats a token, more than "
            f"{found.bound:.4f}; it was not kept",
            hint="Serve the adapter unmerged; its weights may be too small or too large for 16 bits.",
        )
    return base, found


def load_sixteen_bits(name: str, revision: str | None = None) -> Base:
    """Loads a base unquantized, in the 16-bit type it was released in or else bfloat16, on the CPU.

    Raises:
        BaseModelError: If it cannot be loaded, or was released quantized.
    """
    source = source_of(name, revision)
    try:
        settings = source.settings()
    except OSError as error:
        raise source.explained(error, "base model") from error
    if settings.get("quantization_config"):
        raise BaseModelError(
            f"base model {name!r} was released quantized and has no 16-bit weights",
            hint="Serve the adapter unmerged, or name the 16-bit model that this base was made from.",
        )
    own = getattr(torch, str(settings.get("dtype") or settings.get("torch_dtype")), torch.bfloat16)
    dtype = own if own in _SIXTEEN_BITS else torch.bfloat16
    return load_base(name, quantization="none", compute_dtype=dtype, device="cpu", revision=revision)


def released_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Loads a base's tokenizer as it was released, without the changes of `load_tokenizer`.

    Raises:
        OSError: If there is none.
    """
    return source_of(name, revision).tokenizer()


def merge(base: Base, adapter: Patches, prompts: Sequence[str] = PROMPTS) -> Agreement:
    """Adds an adapter to the weights of a base, whose model is an ordinary one afterwards.

    Args:
        base: Unquantized; its bank is removed, so it can serve no adapter any more.
        adapter: Patches of one version.
        prompts: Texts that the agreement is measured on.

    Raises:
        AdapterFileError: If a patch cannot be merged.
    """
    rows = [_row(base, prompt) for prompt in prompts]
    bare, unmerged = (_predictions(base, rows, patches) for patches in (None, adapter))
    for name, layer in base.bank.layers.items():
        if name in adapter:
            _set_weight(layer, _merged_weight(name, layer, adapter[name]))
        base.model.set_submodule(name, layer.base)
    merged = _predictions(base, rows, None)
    return Agreement(_divergence(unmerged, bare), _divergence(unmerged, merged))


def _save(base: Base, directory: Path) -> None:
    try:
        with quiet():
            base.model.save_pretrained(directory)
    except SafetensorError as error:  # raised when the disk is full
        raise StorageError(f"the merged weights cannot be written: {error}") from error


def _row(base: Base, prompt: str) -> Tensor:
    tokens = prompt_tokens(base.tokenizer, prompt)[: base.context_length]
    return torch.tensor([tokens], device=base.device)  # (1, T)


def _predictions(base: Base, rows: Sequence[Tensor], adapter: Patches | None) -> Tensor:
    with torch.inference_mode(), base.bank.route(uniform(adapter)):
        found = [base.model(input_ids=row, use_cache=False).logits[0].float() for row in rows]
    return torch.cat(found).log_softmax(-1)  # (T, V)


def _divergence(expected: Tensor, found: Tensor) -> float:
    return float((expected.exp() * (expected - found)).sum(-1).mean())


def _merged_weight(name: str, layer: BankLinear, patch: Patch) -> Tensor:
    if isinstance(patch, WeightPatch):
        return patch.weight[0]
    lora = patch.lora if isinstance(patch, DoraPatch) else patch
    if not isinstance(lora, LoraPatch):
        raise AdapterFileError(f"layer {name!r}: {type(patch).__name__} cannot be merged")
    weight = layer.weight_like_base(torch.float32)  # (O, D)
    found = torch.addmm(weight, lora.b[0].float(), lora.a[0].float(), alpha=lora.scale)
    return found * patch.ratio.unsqueeze(1) if isinstance(patch, DoraPatch) else found


def _set_weight(layer: BankLinear, weight: Tensor) -> None:
    own = layer.base.weight
    assert isinstance(own, Tensor)
    with torch.no_grad():
        own.copy_(weight.T if is_transposed(layer.base) else weight)
