"""A tiny GGUF file whose vocabulary shows where a pre-tokenizer cuts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.gguf_file import gguf_of

# Pieces that no merges lead to: a pre-tokenizer either takes whole words first or never finds them.
WHOLE = ("CamelCaseWord", "Ġkebab", "Ġthe", "100")
BOS = 2


def cut_file(path: Path, pre_tokenizer: str, merges: Sequence[str]) -> Path:
    """Writes it.

    Args:
        path: Of the new file.
        pre_tokenizer: llama.cpp's name, as the file will have it.
        merges: "left right" in the byte-level alphabet.
    """

    def change(facts: dict[str, Any], tensors: dict[str, Any]) -> None:
        added = [*dict.fromkeys(merge.replace(" ", "") for merge in merges), *WHOLE]
        facts["tokenizer.ggml.tokens"] += added
        facts["tokenizer.ggml.token_type"] += [1] * len(added)
        facts["tokenizer.ggml.merges"] = list(merges)
        facts["tokenizer.ggml.pre"] = pre_tokenizer
        facts["tokenizer.ggml.bos_token_id"] = BOS
        tensors["token_embd.weight"] = np.resize(
            tensors["token_embd.weight"], (len(facts["tokenizer.ggml.tokens"]), 64)
        )

    return gguf_of(path, change)
