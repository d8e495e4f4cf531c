"""The likeliest token, without reading all of a 16-bit output head.

For one token the time of the head is that of reading its weights: 320 MiB for Gemma 3's 262,144 tokens. So logits
are first computed from a copy with 8-bit codes. With a row w that is stored as q and a hidden state h, the logit is
wrong by at most |w - q| |h| (the Cauchy-Schwarz inequality), and |w - q| is known for every row. Only tokens that
can be the likeliest within these bounds, mostly a few dozen, get their logit from the 16-bit head, by the same
product and with the same rounding as if all did. So the token is always the one that the whole head gives.
"""

from typing import Final

import torch
from torch import Tensor, nn

from steerzo_edge.model.int8_copy import Int8Copy, is_exact

SMALLEST_BYTES: Final = 16 << 20
MOST_ROWS: Final = 16
_BF16_ROUNDING: Final = 2.0**-8


class HeadScreen:
    """Finds the likeliest token of each of some rows.

    Args:
        weight: (V, D) bf16, of the output head that `gains` from it.

    Attributes:
        bytes: Of the copy.
        examined: How many logits of the 16-bit head were computed for the last rows.
    """

    def __init__(self, weight: Tensor) -> None:
        self.examined = 0
        self._weight = weight
        self._copy = Int8Copy(weight)
        self.bytes = self._copy.bytes
        self._largest = float(self._copy.errors.max())

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
        """(C,) ascending: the tokens that can be the likeliest of any row; None if the copy cannot tell."""
        scores = self._copy(hidden)  # (n, V)
        lengths = hidden.float().norm(dim=-1, keepdim=True)  # (n, 1)
        least = _just_below(scores.amax(-1, keepdim=True) - self._largest * lengths)
        can_be = scores >= least - self._largest * lengths
        near = (can_be[0] if len(can_be) == 1 else can_be.any(0)).nonzero().squeeze(1)
        if len(near) == 0:  # a state that is not finite
            return None
        found, reach = scores.index_select(1, near), self._copy.errors[near] * lengths  # (n, C)
        least = _just_below((found - reach).amax(-1, keepdim=True))
        close = found + reach >= least
        return near[close.any(0)] if close.any(-1).all() else None


def gains(weight: Tensor) -> bool:
    """Whether a `HeadScreen` pays for a head of this size and type, on this machine.

    Args:
        weight: (V, D).
    """
    is_large = weight.dtype == torch.bfloat16 and weight.nbytes >= SMALLEST_BYTES
    return is_large and weight.device.type == "cpu" and is_exact()


def _just_below(logits: Tensor) -> Tensor:
    """The smallest numbers that may be equal to these logits once all are rounded to bf16."""
    return logits - logits.abs() * (2.02 * _BF16_ROUNDING)
