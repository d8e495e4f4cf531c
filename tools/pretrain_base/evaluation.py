"""Models on held-out text: bits per byte of each corpus, the same bytes for every model."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.machine import description
from steerzo_edge.model.load import default_device, load_tokenizer, quiet
from steerzo_edge.model.quantization import STORAGES
from steerzo_edge.model.sources.bundled import BUNDLED, DIRECTORY
from steerzo_edge.model.sources.registry import source_of
from steerzo_edge.model.sources.source import Loading
from tools.pretrain_base.bits import Score, score
from tools.pretrain_base.documents import Document, documents
from tools.pretrain_base.mix import Mix, file_hash

CONTEXT = 256


@dataclass(frozen=True, slots=True)
class Text:
    """Held-out text of a corpus.

    Args:
        documents: Cleaned, in the order of their hashes; the last may be cut.
        bytes: UTF-8 bytes of all together.
    """

    documents: tuple[str, ...]
    bytes: int


def held_out_text(found: Iterable[Document], limit: int) -> dict[str, Text]:
    """Held-out documents by corpus.

    Args:
        found: Documents of a mix.
        limit: UTF-8 bytes of each corpus, at most; the document that goes beyond is cut at a whole character.
    """
    kept: dict[str, list[Document]] = {}
    for document in found:
        if document.held_out:
            kept.setdefault(document.source.name, []).append(document)
    return {name: _cut(sorted(some, key=lambda one: one.digest), limit) for name, some in kept.items()}


def _cut(some: list[Document], limit: int) -> Text:
    texts: list[str] = []
    left = limit
    for document in some:
        text = document.text.encode()[:left].decode(errors="ignore")
        left -= len(text.encode())
        if text.strip():
            texts.append(text)
    return Text(tuple(texts), limit - left)


def compare(
    models: Sequence[str], mix: Mix, data: Path, *, limit: int, context: int = CONTEXT, threads: int = 0
) -> dict[str, Any]:
    """Bits per byte of some models on each corpus of a mix.

    Args:
        models: Directories, hub ids, or "bundled".
        mix: The corpora.
        data: Where their files are.
        limit: UTF-8 bytes of each corpus.
        context: Tokens of a window.
        threads: Of torch; 0 leaves it.

    Returns:
        JSON-ready: the settings, the machine, the texts' sizes, and each model's scores.

    Raises:
        BaseModelError: If a model cannot be loaded.
        InputError: If a corpus cannot be read.
    """
    if threads:
        torch.set_num_threads(threads)
    device = torch.device(default_device())
    texts = held_out_text(documents(mix, data), limit)
    return {
        "context_tokens": context,
        "limit_bytes": limit,
        "machine": description(device),
        "corpora": {name: {"bytes": text.bytes, "documents": len(text.documents)} for name, text in texts.items()},
        "models": [evaluate(name, texts, context=context, device=device) for name in models],
    }


def evaluate(name: str, texts: dict[str, Text], *, context: int, device: torch.device) -> dict[str, Any]:
    """One model's scores.

    Args:
        name: A directory, a hub id, or "bundled".
        texts: By corpus.
        context: Tokens of a window; less if the model takes less.
        device: Where it computes, in float32.

    Raises:
        BaseModelError: If it cannot be loaded.
    """
    model, tokenizer = _loaded(name, device)
    width = min(context, model.config.max_position_embeddings)
    started = time.perf_counter()
    scores = {corpus: score(model, tokenizer, text.documents, context=width) for corpus, text in texts.items()}
    seconds = time.perf_counter() - started
    whole = sum(scores.values(), Score())
    weights = (DIRECTORY if name == BUNDLED else Path(name)) / "model.safetensors"
    return {
        "model": name if name == "bundled" else Path(name).name,
        "sha256": file_hash(weights) if weights.is_file() else None,
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "context_tokens": width,
        "bits_per_byte": {corpus: round(one.bits_per_byte, 4) for corpus, one in scores.items()},
        "mean_of_corpora": round(sum(one.bits_per_byte for one in scores.values()) / len(scores), 4),
        "all_bytes": round(whole.bits_per_byte, 4),
        "bytes_per_token": round(whole.bytes / whole.tokens, 3),
        "documents_that_come_back": round(whole.exact / whole.documents, 4),
        "seconds": round(seconds, 1),
    }


def _loaded(name: str, device: torch.device) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    source = source_of(name)
    tokenizer = load_tokenizer(name)
    try:
        with quiet():
            source.settings()  # refuses what is not safe to load
            model = source.model(Loading(STORAGES["none"], True, torch.float32, device))
    except (OSError, ValueError, ImportError) as error:
        raise source.explained(error, "base model") from error
    return model.eval(), tokenizer
