"""A tiny random model of every family that is promised to work, and of some that are refused."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    ArceeConfig,
    AutoModelForCausalLM,
    BloomConfig,
    CodeGenConfig,
    Cohere2Config,
    DeepseekV3Config,
    Ernie4_5Config,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    Glm4Config,
    GPT2Config,
    GPTBigCodeConfig,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    GptOssConfig,
    GraniteConfig,
    HeliumConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    MptConfig,
    NemotronConfig,
    Olmo2Config,
    Olmo3Config,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    Qwen3NextConfig,
    SmolLM3Config,
    StableLmConfig,
    Starcoder2Config,
    XGLMConfig,
)

from tests.conftest import byte_tokenizer

SHAPE: dict[str, Any] = {
    "vocab_size": len(byte_tokenizer()), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3
}  # fmt: skip
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
ENDS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
FAMILIES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SHAPE, **HEADS, **ENDS),
    "smollm-shape": LlamaConfig(
        **{**SHAPE, "hidden_size": 72}, **ENDS, num_attention_heads=9, num_key_value_heads=3, head_dim=8,
        max_position_embeddings=128, tie_word_embeddings=True,
    ),
    "smollm3-some-layers-without-positions": SmolLM3Config(**SHAPE, **HEADS, **ENDS, no_rope_layer_interval=2),
    # Padded, as usual: the class of its tokenizer adds a token of its own.
    "qwen2": Qwen2Config(**{**SHAPE, "vocab_size": SHAPE["vocab_size"] + 3}, **HEADS, **ENDS),
    "qwen3": Qwen3Config(**SHAPE, **HEADS, **ENDS, head_dim=16, tie_word_embeddings=True),
    "mistral-window": MistralConfig(**SHAPE, **HEADS, **ENDS, sliding_window=8),
    "gemma": GemmaConfig(**SHAPE, **HEADS, **ENDS, head_dim=16),
    "gemma2-window-and-caps": Gemma2Config(
        **SHAPE, **HEADS, **ENDS, head_dim=16, sliding_window=8, attn_logit_softcapping=20.0
    ),
    "gemma3-window": Gemma3TextConfig(**SHAPE, **HEADS, **ENDS, head_dim=16, sliding_window=8),
    "phi": PhiConfig(**SHAPE, **HEADS, **ENDS),
    "phi3": Phi3Config(**SHAPE, **HEADS, **ENDS),
    "opt-learned-positions": OPTConfig(
        vocab_size=SHAPE["vocab_size"], hidden_size=64, ffn_dim=128, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=128, word_embed_proj_dim=64, **ENDS,
    ),
    "gpt2-learned-positions": GPT2Config(
        vocab_size=SHAPE["vocab_size"], n_embd=64, n_layer=3, n_head=4, n_positions=128, **ENDS
    ),
    "gpt-neox": GPTNeoXConfig(**SHAPE, num_attention_heads=4, max_position_embeddings=128, **ENDS),
}  # fmt: skip

# Families that are known to work, with fewer promises tested than those above.
FURTHER: dict[str, PretrainedConfig] = {
    "arcee": ArceeConfig(**SHAPE, **HEADS, **ENDS),
    "cohere2-window": Cohere2Config(**SHAPE, **HEADS, **ENDS, sliding_window=8),
    "deepseek-v3-dense": DeepseekV3Config(
        **SHAPE, **ENDS, num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=128, q_lora_rank=16,
        kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=16, n_routed_experts=4,
        first_k_dense_replace=3, n_group=1, topk_group=1, num_experts_per_tok=2,
    ),
    "ernie4_5": Ernie4_5Config(**SHAPE, **HEADS, **ENDS),
    "glm4": Glm4Config(**SHAPE, **HEADS, **ENDS, head_dim=16),
    "granite": GraniteConfig(**SHAPE, **HEADS, **ENDS, logits_scaling=2.0, residual_multiplier=0.5),
    "helium": HeliumConfig(**SHAPE, **HEADS, **ENDS, head_dim=16),
    "mixtral-experts": MixtralConfig(**SHAPE, **HEADS, **ENDS, num_local_experts=4),
    "nemotron": NemotronConfig(**SHAPE, **HEADS, **ENDS),
    "olmo2": Olmo2Config(**SHAPE, **HEADS, **ENDS),
    "olmo3-window": Olmo3Config(**SHAPE, **HEADS, **ENDS, sliding_window=8),
    "qwen3-experts": Qwen3MoeConfig(
        **SHAPE, **HEADS, **ENDS, head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32
    ),
    "stablelm": StableLmConfig(**SHAPE, **HEADS, **ENDS),
    "starcoder2-window": Starcoder2Config(**SHAPE, **HEADS, **ENDS, sliding_window=8),
}  # fmt: skip
# What `load_base` refuses, in words.
_OLD: dict[str, Any] = {"vocab_size": SHAPE["vocab_size"], "n_embd": 64, "n_layer": 3, "n_head": 4, **ENDS}
REFUSED: dict[str, PretrainedConfig] = {
    "bloom": BloomConfig(vocab_size=SHAPE["vocab_size"], hidden_size=64, n_layer=3, n_head=4, **ENDS),
    "codegen": CodeGenConfig(**_OLD, n_positions=128, rotary_dim=8),
    "falcon": FalconConfig(
        vocab_size=SHAPE["vocab_size"], hidden_size=64, num_hidden_layers=3, num_attention_heads=4, alibi=False,
        **ENDS,
    ),
    "gpt-bigcode": GPTBigCodeConfig(**_OLD, n_positions=128),
    "gpt-j": GPTJConfig(**_OLD, n_positions=128, rotary_dim=8),
    "gpt-neo-1": GPTNeoConfig(
        vocab_size=SHAPE["vocab_size"], hidden_size=64, num_layers=4, attention_types=[[["global", "local"], 2]],
        num_heads=4, max_position_embeddings=128, window_size=8, **ENDS,
    ),
    "gpt-oss": GptOssConfig(**SHAPE, **HEADS, **ENDS, head_dim=16, num_local_experts=4, sliding_window=8),
    "mamba": MambaConfig(vocab_size=SHAPE["vocab_size"], hidden_size=64, num_hidden_layers=3, **ENDS),
    "mpt": MptConfig(vocab_size=SHAPE["vocab_size"], d_model=64, n_layers=3, n_heads=4, max_seq_len=128),
    "qwen3-next": Qwen3NextConfig(**SHAPE, **HEADS, **ENDS, head_dim=16),
    "xglm": XGLMConfig(
        vocab_size=SHAPE["vocab_size"], d_model=64, ffn_dim=128, num_layers=3, attention_heads=4,
        max_position_embeddings=128, **ENDS,
    ),
}  # fmt: skip


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def saved(config: PretrainedConfig, path: Path) -> Path:
    """Saves a random model; weights larger than usual, so that every token counts."""
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 2:
            tensor.copy_(torch.randn(tensor.shape, generator=seeded(len(name))) * (1.5 / tensor.shape[-1] ** 0.5))
    model.save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return path
