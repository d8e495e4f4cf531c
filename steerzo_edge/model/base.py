"""One frozen base model: its weights, its tokenizer, its adapter bank. Training and serving share it."""

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from steerzo_edge.model.bank import AdapterBank
from steerzo_edge.model.head import Head
from steerzo_edge.model.quantization import Quantization


class Base:
    """A loaded base. Make one with `load_base`.

    Args:
        name: The hub id or path it was loaded from.
        model: Frozen, in evaluation mode; its linear layers are wrapped here.
        tokenizer: Its tokenizer.
        quantization: How its linear layers are kept.
        compute_dtype: The type its activations have.
        fingerprint: Hash of its frozen weights.
    """

    def __init__(
        self,
        *,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        quantization: Quantization,
        compute_dtype: torch.dtype,
        fingerprint: str,
    ) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.quantization = quantization
        self.compute_dtype = compute_dtype
        self.fingerprint = fingerprint
        self.bank = AdapterBank(model)
        self.head = Head(model.get_output_embeddings(), model.config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.model.device)

    @property
    def context_length(self) -> int:
        """Most tokens the model can take."""
        return int(getattr(self.model.config, "max_position_embeddings", 2048))

    def hidden(self, input_ids: Tensor) -> Tensor:
        """Last hidden states under the bank's active route.

        Args:
            input_ids: (N, T) int64, padded on the right. A causal model never looks ahead, so what
                stands behind the last real token does not matter and needs no mask.

        Returns:
            (N, T, D) in the compute type.
        """
        output = self.model.base_model(input_ids=input_ids, use_cache=False)
        return output.last_hidden_state  # type: ignore[no-any-return]
