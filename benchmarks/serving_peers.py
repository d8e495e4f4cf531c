"""Answers the same prompts with other libraries: `transformers`' generate, and peft's batches of mixed adapters.

Both on a model of their own, loaded and quantized by `transformers` from the directory that our base came from,
with the same adapters in peft's file format. Tokens are counted as they come out; nothing is streamed.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from steerzo_edge.data.tokens import Tokens
from steerzo_edge.model.adapter_file import save_adapter
from steerzo_edge.model.base import Base
from steerzo_edge.model.quantization import STORAGES
from steerzo_edge.model.subset import Subset


class Peers:
    """The same base and the same adapters in other libraries.

    Args:
        path: The base's directory.
        base: Ours; only its types, its tokenizer and its kind of quantization are looked at.
        adapters: At least one, as peft's files can hold them.
    """

    def __init__(self, path: str, base: Base, adapters: Sequence[Subset]) -> None:
        self._pad = base.tokenizer.pad_token_id
        model = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=base.compute_dtype,
            device_map={"": base.device},
            **STORAGES[base.quantization].load_options(base.compute_dtype),
        ).eval()
        with tempfile.TemporaryDirectory() as directory:
            for number, adapter in enumerate(adapters):
                save_adapter(Path(directory, str(number)), adapter, base)
            self._model: Any = PeftModel.from_pretrained(model, str(Path(directory, "0")), adapter_name="0")
            for number in range(1, len(adapters)):
                self._model.load_adapter(str(Path(directory, str(number))), adapter_name=str(number))
        self._count = len(adapters)

    def transformers_alone(self, prompts: Sequence[Tokens], tokens: int) -> float:
        """Tokens a second of generate without adapters, one prompt after the other."""
        with self._model.disable_adapter():
            return self._rate([[prompt] for prompt in prompts], tokens)

    def transformers_together(self, prompts: Sequence[Tokens], tokens: int) -> float:
        """Tokens a second of generate without adapters, all prompts in one padded batch."""
        with self._model.disable_adapter():
            return self._rate([prompts], tokens)

    def peft_together(self, prompts: Sequence[Tokens], tokens: int) -> float:
        """Tokens a second of one padded batch in which row i has adapter i, over and over."""
        return self._rate([prompts], tokens, [str(row % self._count) for row in range(len(prompts))])

    def _rate(
        self, batches: Sequence[Sequence[Tokens]], tokens: int, adapter_names: list[str] | None = None
    ) -> float:
        others = {} if adapter_names is None else {"adapter_names": adapter_names}
        made = 0
        began = time.perf_counter()
        for batch in batches:
            ids, mask = padded(batch, self._pad, self._model.device)
            with torch.inference_mode():
                found = self._model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=tokens,
                    do_sample=False,
                    pad_token_id=self._pad,
                    **others,
                )
            made += int((found[:, ids.shape[1] :] != self._pad).sum())
        return made / (time.perf_counter() - began)


def padded(prompts: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask of one batch, (n, T) each, padded on the left."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    return ids, mask
