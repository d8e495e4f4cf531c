"""Several prompts one after another in one row of tokens, each with its own patches.

The base's product is computed once, over all tokens. A patch's addition is computed for its own tokens only, by the
same operation as if they were alone: so its bits are the same, and the numbers of one adapter (an infinity, for
example) cannot reach the tokens of another.

    tokens   a a a a b b c c c c c c        base(x) over all of them
    patches  ---A--- none ----C-----        A(x[:4]), C(x[6:])
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from steerzo_edge.model.patches import Linear, Patch, Patches
from steerzo_edge.model.row_loras import RowLoras


class Segments:
    """A patch, or none, for each of some segments of unequal length. See `Patch`.

    Args:
        patches: One for each segment, of one group.
        lengths: Tokens of each.
    """

    def __init__(self, patches: Sequence[Patch | None], lengths: Sequence[int]) -> None:
        self._patches = tuple(patches)
        self._lengths = list(lengths)
        self._are_loras = all(patch is None or isinstance(patch, RowLoras) for patch in patches)

    @property
    def groups(self) -> int:
        """All tokens are one row."""
        return 1

    def __call__(self, base: Linear, x: Tensor) -> Tensor:
        """(..., S, D) to (..., S, O); all dimensions before S are 1."""
        out = base(x)
        if self._are_loras:
            return out.add_(self._loras(x, out))
        inputs, outputs = (tensor.split_with_sizes(self._lengths, -2) for tensor in (x, out))
        for patch, own, part in zip(self._patches, inputs, outputs, strict=True):
            if patch is None:
                continue
            patched = patch(_constant(part), own)
            if patched is not part:  # most patches add in place
                part.copy_(patched)
        return out

    def _loras(self, x: Tensor, out: Tensor) -> Tensor:
        """What is added to all tokens: cast once for all, with products for each segment alone."""
        tokens = sum(self._lengths)
        inputs = x.float().view(1, tokens, -1).split_with_sizes(self._lengths, 1)
        added = torch.empty(1, tokens, out.shape[-1], dtype=torch.float32, device=x.device)
        for patch, own, part in zip(self._patches, inputs, added.split_with_sizes(self._lengths, 1), strict=True):
            if isinstance(patch, RowLoras):
                patch.write(own, part)
            else:
                part.fill_(-0.0)  # adding this changes nothing, not even the sign of a zero
        return added.view_as(out)


def segments(routes: Sequence[Patches], lengths: Sequence[int]) -> Mapping[str, Patch]:
    """The route in which each segment of one row of tokens uses its own route.

    Args:
        routes: One for each segment, as `routes.rows` makes it from one adapter.
        lengths: Tokens of each.
    """
    if len(routes) == 1:
        return routes[0]
    names = dict.fromkeys(name for route in routes for name in route)
    return {name: Segments([route.get(name) for route in routes], lengths) for name in names}


def _constant(product: Tensor) -> Linear:
    return lambda x: product
