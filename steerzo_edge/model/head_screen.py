"""The likeliest token, without reading all of a 16-bit output head.

For one token the time of the head is that of reading its weights: 320 MiB for Gemma 3's 262,144 tokens. So logits are
first computed from a copy with 8-bit codes, half as many bytes. By the Cauchy-Schwarz inequality the logit of a token
whose row w is stored as q is wrong by at most |w - q| |h| for a hidden state h; |w - q| is known for every row. Only
tokens that can be the likeliest within these bounds, mostly a few dozen, get their logit from the 16-bit head, by the
same product and with the same rounding as if all did. So the token is the one that the whole head gives, always.

The copy takes one byte a weight. It is made when the first token is chosen, and only for heads that are large enough
to gain from it.
"""

from typing import Final

import torch
from torch import Tensor, nn

SMALLEST_BYTES: Final = 32 << 20
_BLOCK: Final = 4096
_BF16_ROUNDING: Final = 2.0**-8
_FLOAT32_ROUNDING: Final = 2.0**-24


class HeadScreen:
    """Finds the likeliest token of each of some rows.

    Args:
        weight: (V, D) bf16, of the output head; it is read again for the tokens that remain.

    Attributes:
        examined: How many logits of the 16-bit head were computed for the last rows.
    """

    def __init__(self, weight: Tensor) -> None:
        count, width = weight.shape
        self.examined = 0
        self._weight = weight
        self._codes = torch.empty(count, width, dtype=torch.int8)
        self._scales = torch.empty(count, dtype=weight.dtype)
        self._errors = torch.empty(count, dtype=torch.float32)
        # Both products sum `width` terms in float32, in some order.
        summing = 2 * 2 * width * _FLOAT32_ROUNDING
        for start in range(0, count, _BLOCK):
            part = slice(start, start + _BLOCK)
            rows = weight[part].float()
            scales = (rows.abs().amax(1) / 127).clamp(min=1e-30).to(weight.dtype)
            steps = scales.float().unsqueeze(1)
            codes = (rows / steps).round_().clamp_(-127, 127)
            self._codes[part], self._scales[part] = codes.to(torch.int8), scales
            errors = (rows - codes.mul_(steps)).norm(dim=1)
            self._errors[part] = errors * (1 + 1e-3) + rows.norm(dim=1) * summing
        self._largest = float(self._errors.max())

    @property
    def bytes(self) -> int:
        """Bytes that the copy takes."""
        return self._codes.nbytes + self._scales.nbytes + self._errors.nbytes

    def likeliest(self, hidden: Tensor) -> Tensor:
        """The first token with the largest logit, as `argmax` of the whole head's product would be.

        Args:
            hidden: (n, D) bf16 last hidden states.

        Returns:
            (n,) int64.
        """
        tokens = self._possible(hidden)
        weight = self._weight if tokens is None else self._weight.index_select(0, tokens)
        self.examined = len(weight)
        found = nn.functional.linear(hidden, weight).argmax(-1)
        return found if tokens is None else tokens[found]

    def _possible(self, hidden: Tensor) -> Tensor | None:
        """(C,) ascending: the tokens that can be the likeliest of any row; None if the codes cannot tell."""
        scores = torch.ops.aten._weight_int8pack_mm(hidden, self._codes, self._scales)  # (n, V), rounded to bf16
        lengths = hidden.float().norm(dim=-1, keepdim=True)  # (n, 1)
        lowest, highest = (bound.float() for bound in scores.aminmax(dim=-1, keepdim=True))
        rounding = torch.maximum(lowest.abs(), highest.abs()) * (1.01 * _BF16_ROUNDING)
        reach = self._errors[scores.argmax(-1, keepdim=True)] * lengths
        least = highest - rounding - reach  # of the largest logit
        # Logits are rounded to bf16 before they are compared: one that is a little smaller may be equal then.
        least -= least.abs() * (2.02 * _BF16_ROUNDING) + rounding
        rough = least - self._largest * lengths
        rough = (rough - rough.abs() * (2.02 * _BF16_ROUNDING)).to(scores.dtype)
        near = (scores >= rough).any(0).nonzero().squeeze(1)
        close = torch.addcmul(scores.index_select(1, near).float(), self._errors[near], lengths) >= least
        tokens = near[close.any(0)]
        return tokens if close.any(-1).all() else None  # a state that is not finite
