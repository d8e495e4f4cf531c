"""Exports base and adapter as one GGUF file, for llama.cpp and software built on it."""

from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedModel

from steerzo_edge.errors import ConflictError
from steerzo_edge.estimate.anatomy import load_config
from steerzo_edge.export.gguf_file import gguf_package, tensor_names, write_gguf
from steerzo_edge.export.shapes import GgufShape, gguf_shape
from steerzo_edge.export.vocabulary import vocabulary
from steerzo_edge.model.merged import Agreement, load_merged, released_tokenizer
from steerzo_edge.model.weights.none import is_transposed


def export_gguf(adapter: Path, out: Path, name: str, *, revision: str | None = None) -> Agreement:
    """Writes base and adapter, merged in 16 bits, with the tokenizer.

    Args:
        adapter: A PEFT directory.
        out: The file; must not exist.
        name: The base, as `load_base` takes it.
        revision: Commit, tag or branch of a hub model.

    Raises:
        ConflictError: If `out` exists, the package gguf is missing, or the merged model does not agree with base
            and adapter; nothing is kept then.
        BaseModelError: If the base cannot be loaded in 16 bits, or llama.cpp cannot compute what it computes.
        AdapterFileError: If the adapter does not fit it.
        OSError: If the disk is full or fails.
        StorageError: As OSError.
    """
    gguf_package()
    if out.exists():
        raise ConflictError(f"{str(out)!r} exists already", hint="Name a new file.")
    shape = gguf_shape(load_config(name, revision))
    base, found = load_merged(adapter, name, revision)
    facts = {
        "general.name": Path(name).name,
        **shape.facts,
        **vocabulary(
            released_tokenizer(name, revision), int(base.model.config.vocab_size), base.model.generation_config
        ),
    }
    write_gguf(out, shape.architecture, facts, model_tensors(base.model, shape))
    return found


def model_tensors(model: PreTrainedModel, shape: GgufShape) -> dict[str, Tensor]:
    """Names a model's weights as llama.cpp does, and puts their rows into its order.

    Args:
        model: Unquantized, without an adapter bank.
        shape: Of the base.
    """
    weights: dict[str, Tensor] = {}
    tied = model.config.tie_word_embeddings
    head = model.get_output_embeddings()
    for place, module in model.named_modules():
        if tied and module is head:
            continue
        for part, tensor in module.named_parameters(recurse=False):
            weights[f"{place}.{part}"] = _as_matrix(module, part, tensor)
    names = tensor_names(shape, list(weights))
    found = {
        names[name]: shape.in_order(name.rpartition(".")[0], tensor).detach() for name, tensor in weights.items()
    }
    if shape.rotary_factors is not None:
        found["rope_freqs.weight"] = shape.rotary_factors
    return found


def _as_matrix(module: nn.Module, part: str, tensor: Tensor) -> Tensor:
    """(O, D), also in families that store weights transposed."""
    return tensor.T if is_transposed(module) and part == "weight" else tensor
