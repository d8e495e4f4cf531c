"""The output head: computes only the logits that are needed, always in float32.

A bf16 logit near 16 is rounded to steps of 1/8, and probes differ by about 1e-3: products here are in float32,
whatever the base's compute type. The vocabulary is processed in blocks, so that no (K, B, T, V) tensor exists.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
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

    @property
    def vocabulary(self) -> int:
        """Number of tokens that have a logit."""
        return len(self._weight)

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
            self._differentiable(part, ids) for part, ids in zip(*self._cut(hidden.float(), token_ids), strict=True)
        ]
        return torch.cat([chosen - normalizer for normalizer, chosen in parts])

    def likeliest(self, hidden: Tensor, token_ids: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """log p of one token at each position and of the likeliest ones, over the whole vocabulary; no gradient.

        Args:
            hidden: (P, D).
            token_ids: (P,) int64.
            count: How many of the likeliest tokens, at most the vocabulary; may be 0.

        Returns:
            (P,) float32, in nats, of the given tokens; (P, count) float32, of the likeliest ones, in falling order;
            (P, count) int64, their ids. A given token that is among the likeliest has the same number in both.
        """
        parts = [
            self._ranked(part, ids, count) for part, ids in zip(*self._cut(hidden.float(), token_ids), strict=True)
        ]
        own, values, ids = (torch.cat(part) for part in zip(*parts, strict=True))
        return own, values, ids

    def rows(self, hidden: Tensor) -> Tensor:
        """Logits of the whole vocabulary, for a few positions.

        Args:
            hidden: (P, D).

        Returns:
            (P, V) float32.
        """
        hidden = hidden.float()
        return torch.cat([self._block(hidden, start) for start in range(0, len(self._weight), self._columns)], -1)

    def normalizers(self, hidden: Tensor) -> Tensor:
        """log of the summed exponentials of all logits; a logit minus this is a log-probability.

        Args:
            hidden: (P, D).

        Returns:
            (P,) float32.
        """
        nothing = torch.zeros(len(hidden), dtype=torch.int64, device=hidden.device)
        parts = zip(*self._cut(hidden.float(), nothing), strict=True)
        return torch.cat([self._differentiable(part, ids)[0] for part, ids in parts])

    def _cut(self, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
        """Splits positions so that their logits over a block of the vocabulary stay within the bound."""
        positions = max(1, self.block_bytes // (8 * self._columns))
        return [torch.split(tensor, positions) for tensor in tensors]

    @property
    def _columns(self) -> int:
        """Tokens in a block: half of the bound is for the float32 weights, half for the logits."""
        vocabulary, width = self._weight.shape
        return max(1, min(vocabulary, self.block_bytes // (8 * width)))

    def _differentiable(self, hidden: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        if not hidden.requires_grad:
            return self._by_blocks(hidden, token_ids)
        found: tuple[Tensor, Tensor] = _Blocks.apply(hidden, token_ids, self)  # type: ignore[no-untyped-call]
        return found

    def pulled_back(
        self, hidden: Tensor, token_ids: Tensor, normalizer: Tensor, of_normalizer: Tensor, of_chosen: Tensor
    ) -> Tensor:
        """The gradient of the hidden states; the logits are computed again, block by block.

        Args:
            hidden: (P, D) float32.
            token_ids: (P,) int64.
            normalizer: (P,) float32, the log of the summed exponentials.
            of_normalizer: (P,) gradient of it.
            of_chosen: (P,) gradient of the token's logit.

        Returns:
            (P, D) float32.
        """
        gradient = torch.zeros_like(hidden)
        for start in range(0, len(self._weight), self._columns):
            if hidden.device.type == "cpu":  # on CUDA autograd has a thread of its own, and the hook is not for it
                self._between()
            with torch.enable_grad():
                own = hidden.detach().requires_grad_()
                logits = self._block(own, start)
            share = (logits.detach() - normalizer.unsqueeze(1)).exp_().mul_(of_normalizer.unsqueeze(1))
            local = token_ids - start
            inside = (local >= 0) & (local < share.shape[1])
            local = local.clamp(0, share.shape[1] - 1).unsqueeze(1)
            share.scatter_add_(1, local, torch.where(inside, of_chosen, 0).unsqueeze(1))
            gradient += torch.autograd.grad(logits, own, share)[0]
        return gradient

    def _block(self, hidden: Tensor, start: int) -> Tensor:
        """Logits of the block of the vocabulary that begins at `start`: (P, block) float32."""
        weight = self._weight[start : start + self._columns].float()
        bias = None if self._bias is None else self._bias[start : start + self._columns]
        return self._finish(nn.functional.linear(hidden, weight, bias))

    def _by_blocks(
        self, hidden: Tensor, token_ids: Tensor, look: Callable[[Tensor, int], None] = lambda logits, start: None
    ) -> tuple[Tensor, Tensor]:
        """Normalizer and the token's logit, (P,) each, block by block over the vocabulary.

        Args:
            hidden: (P, D) float32.
            token_ids: (P,) int64.
            look: Called with the logits of every block, and where the block begins.
        """
        normalizer = torch.full((len(hidden),), -torch.inf, dtype=torch.float32, device=hidden.device)
        chosen = torch.zeros_like(normalizer)
        for start in range(0, len(self._weight), self._columns):
            self._between()
            logits = self._block(hidden, start)
            normalizer = torch.logaddexp(normalizer, logits.logsumexp(-1))
            local = token_ids - start
            inside = (local >= 0) & (local < logits.shape[1])
            found = logits.gather(1, local.clamp(0, logits.shape[1] - 1).unsqueeze(1)).squeeze(1)
            chosen = torch.where(inside, found, chosen)
            look(logits, start)
        return normalizer, chosen

    def _ranked(self, hidden: Tensor, token_ids: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """As `likeliest`, for positions whose logits fit into the bound."""
        values = hidden.new_empty(len(hidden), 0)
        ids = token_ids.new_empty(len(hidden), 0)

        def look(logits: Tensor, start: int) -> None:
            nonlocal values, ids
            best = logits.topk(min(count, logits.shape[1]), -1)
            values, ids = torch.cat((values, best.values), -1), torch.cat((ids, best.indices + start), -1)
            values, places = values.topk(min(count, values.shape[1]), -1)
            ids = ids.gather(-1, places)

        normalizer, chosen = self._by_blocks(hidden, token_ids, look if count else lambda logits, start: None)
        return chosen - normalizer, values - normalizer.unsqueeze(1), ids


def is_plain(config: PretrainedConfig) -> bool:
    """Whether a model's logits are its head's product, which nothing scales or caps.

    Args:
        config: Of the model.
    """
    return not any(getattr(config, name, None) for name in _CHANGES)


class _Blocks(torch.autograd.Function):
    """`Head._by_blocks` with a gradient that keeps the hidden states only."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, token_ids: Tensor, head: Head) -> tuple[Tensor, Tensor]:
        normalizer, chosen = head._by_blocks(hidden, token_ids)
        ctx.save_for_backward(hidden, token_ids, normalizer)
        ctx.head = head
        return normalizer, chosen

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.head.pulled_back(*ctx.saved_tensors, *gradients), None, None


def _finish(config: PretrainedConfig) -> Callable[[Tensor], Tensor]:
    """How a family changes its logits after the product."""
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma 2 and later
        return lambda logits: torch.tanh(logits / cap) * cap
    if divisor := getattr(config, "logits_scaling", None):  # Granite
        return lambda logits: logits / divisor
    if factor := getattr(config, "logit_scale", None):  # Cohere
        return lambda logits: logits * factor
    return lambda logits: logits
