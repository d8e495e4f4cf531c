"""The peer of benchmarks: peft's LoRA on `transformers`' own nf4 model, without this engine's layers.

It is imported where the peer is measured: peft would count among what this engine holds.
"""

from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from steerzo_edge.model.layers import layer_count


def qlora_model(base: str, *, rank: int, quarter: bool, dtype: torch.dtype = torch.bfloat16) -> Any:
    """Loads a base with LoRA in training mode, with gradient checkpointing.

    Args:
        base: Directory or hub id of a base in 16 bit.
        rank: Of the adapter.
        quarter: Whether only the top quarter of the layers is trained.
        dtype: Of activations and expanded weights.
    """
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, quantization_config=config, device_map="cpu")
    model = peft.prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs={"use_reentrant": False})
    layers = layer_count(model.config)
    top = max(1, layers // 4) if quarter else layers
    names = {name.rpartition(".")[2] for name, part in model.named_modules() if type(part).__name__ == "Linear4bit"}
    lora = peft.LoraConfig(
        r=rank, lora_alpha=16, target_modules=sorted(names), layers_to_transform=list(range(layers - top, layers))
    )
    return peft.get_peft_model(model, lora).train()
