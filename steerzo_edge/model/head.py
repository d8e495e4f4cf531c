"""The output head: computes only the logits that are needed, always in float32.

A bf16 logit near 16 is rounded to steps of 1/8, and probes differ by about 1e-3: products here are in float32,
whatever the base's compute type. The vocabulary is processed in blocks, so that no (K, B, T, V) tensor exists.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

# Half is for weights, half for logits. With 64 MiB, which do not fit into a cache, a head takes 1.3 times as long.
BLOCK_BYTES = 16 << 20
_CHANGES = ("final_logit_softcapping", "logits_scaling", "logit_scale")


class Head:
    """Computes logits or log-likelihoods from hidden states.

    Args:
        layer: The model's output embedding; frozen, not quantized.
        config: Of the model; it says whether logits are scaled or soft-capped.
        block_bytes: About half of the temporary memory of `log_likelihoods` and `normalizers`; set by the run that
            uses the base, see `estimate/plan.py`.
        between: Called before every block of the vocabulary; see `AdapterBank.preemption_hook`.
    """

    def __init__(
        self,
        layer: nn.Module,
        config: PretrainedConfig,
        block_bytes: int = BLOCK_BYTES,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        weight: Any = layer.weight
        self._weight: Tensor = weight.detach()
        bias = getattr(layer, "bias", None)
        self._bias: Tensor | None = None if bias is None else bias.detach().float()
        self._finish = _finish(config)
        self.block_bytes = block_bytes
        self._between = between

    def logits(self, hidden: Tensor, token_ids: Tensor) -> Tensor:
        """Logits of some tokens.

        Args:
            hidden: (P, D) last hidden states.
            token_ids: (C,) int64.

        Returns:
            (P, C) float32.
        """
        bias = None if self._bias is None else self._bias[token_ids]
        return self._finish(nn.functional.linear(hidden.float(), self._weight[token_ids].float(), bias))

    def log_likelihoods(self, hidden: Tensor, token_ids: Tensor) -> Tensor:
        """log p(token) for one token at each position, over the whole vocabulary.

        Args:
            hidden: (P, D).
            token_ids: (P,) int64.

        Returns:
            (P,) float32, in nats.
        """
        parts = [
            self._by_blocks(part, ids) for part, ids in zip(*self._cut(hidden.float(), token_ids), strict=True)
        ]
        return torch.cat([chosen - normalizer for normalizer, chosen in parts])

    def normalizers(self, hidden: Tensor) -> Tensor:
        """log of the summed exponentials of all logits; a logit minus this is a log-probability.

        Args:
            hidden: (P, D).

        Returns:
            (P,) float32.
        """
        nothing = torch.zeros(len(hidden), dtype=torch.int64, device=hidden.device)
        parts = zip(*self._cut(hidden.float(), nothing), strict=True)
        return torch.cat([self._by_blocks(part, ids)[0] for part, ids in parts])

    def _cut(self, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
        """Splits positions so that their logits over a block of the vocabulary stay within the bound."""
        positions = max(1, self.block_bytes // (8 * self._columns))
        return [torch.split(tensor, positions) for tensor in tensors]

    @property
    def _columns(self) -> int:
        """Tokens in a block: half of the bound is for the float32 weights, half for the logits."""
        vocabulary, width = self._weight.shape
        return max(1, min(vocabulary, self.block_bytes // (8 * width)))

    def _by_blocks(self, hidden: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Normalizer and the token's logit, (P,) each, block by block over the vocabulary."""
        normalizer = torch.full((len(hidden),), -torch.inf, dtype=torch.float32, device=hidden.device)
        chosen = torch.zeros_like(normalizer)
        for start in range(0, len(self._weight), self._columns):
            self._between()
            weight = self._weight[start : start + self._columns].float()
            bias = None if self._bias is None else self._bias[start : start + self._columns]
            logits = self._finish(nn.functional.linear(hidden, weight, bias))  # (P, block)
            normalizer = torch.logaddexp(normalizer, logits.logsumexp(-1))
            local = token_ids - start
            inside = (local >= 0) & (local < len(weight))
            found = logits.gather(1, local.clamp(0, len(weight) - 1).unsqueeze(1)).squeeze(1)
            chosen = torch.where(inside, found, chosen)
        return normalizer, chosen


def is_plain(config: PretrainedConfig) -> bool:
    """Whether a model's logits are its head's product, which nothing scales or caps.

    Args:
        config: Of the model.
    """
    return not any(getattr(config, name, None) for name in _CHANGES)


def _finish(config: PretrainedConfig) -> Callable[[Tensor], Tensor]:
    """How a family changes its logits after the product."""
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma 2 and later
        return lambda logits: torch.tanh(logits / cap) * cap
    if divisor := getattr(config, "logits_scaling", None):  # Granite
        return lambda logits: logits / divisor
    if factor := getattr(config, "logit_scale", None):  # Cohere
        return lambda logits: logits * factor
    return lambda logits: logits
