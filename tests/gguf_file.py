"""Writes a tiny model as a GGUF file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tests.conftest import byte_tokenizer
from tests.families import ENDS, HEADS, SHAPE


def gguf_of(
    path: Path, change: Callable[[dict[str, Any], dict[str, Any]], Any] = lambda facts, tensors: None
) -> Path:
    """A tiny Llama in a file, with float32 tensors; `change` may edit its metadata and tensors before."""
    config = LlamaConfig(**SHAPE, **HEADS, **ENDS, tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    tensors: dict[str, Any] = {
        known.get_name(key, try_suffixes=(".weight",)): tensor.numpy()
        for key, tensor in model.state_dict().items()
        if key != "lm_head.weight"
    }
    tokenizer = byte_tokenizer()
    pieces = sorted(tokenizer.get_vocab(), key=lambda piece: tokenizer.get_vocab()[piece])
    facts: dict[str, Any] = {
        "llama.context_length": 128,
        "llama.block_count": config.num_hidden_layers,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 128,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-6,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.token_type": [3 if piece.startswith("<|") else 1 for piece in pieces],
        "tokenizer.ggml.merges": [""],
        "tokenizer.ggml.eos_token_id": 0,
    }
    change(facts, tensors)
    file = gguf.GGUFWriter(path, facts.pop("architecture", "llama"))
    adders: dict[type, Callable[..., Any]] = {
        int: file.add_uint32, float: file.add_float32, str: file.add_string, list: file.add_array,
        bool: file.add_bool,
    }  # fmt: skip
    for key, value in facts.items():
        adders[type(value)](key, value)
    for key, array in tensors.items():
        array, kind = array if isinstance(array, tuple) else (array, None)
        file.add_tensor(key, array, raw_dtype=kind)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return path
