"""Several prompts one behind the other in one row of tokens, each with the patches that it has alone.

The base's product is made once, over all tokens. What a patch adds is made for its own tokens, by the operation
that it does when they are the only ones: so its bits are the same, and what one adapter holds (an infinity, say)
never comes near another's tokens.

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
        """(..., S, D) to (..., S, O), where what is before S is 1."""
        out = base(x)
        if self._are_loras:
            return out.add_(self._loras(x, out))
        asked, made = (tensor.split_with_sizes(self._lengths, -2) for tensor in (x, out))
        for patch, own, part in zip(self._patches, asked, made, strict=True):
            if patch is None:
                continue
            found = patch(_gives(part), own)
            if found is not part:  # most add in place
                part.copy_(found)
        return out

    def _loras(self, x: Tensor, out: Tensor) -> Tensor:
        """What is added to all tokens: cast once and added once, each segment's products by themselves."""
        tokens = sum(self._lengths)
        asked = x.float().view(1, tokens, -1).split_with_sizes(self._lengths, 1)
        added = torch.empty(1, tokens, out.shape[-1], dtype=torch.float32, device=x.device)
        for patch, own, part in zip(self._patches, asked, added.split_with_sizes(self._lengths, 1), strict=True):
            if isinstance(patch, RowLoras):
                patch.write(own, part)
            else:
                part.fill_(-0.0)  # which changes nothing, not even the sign of a zero
        return added.view_as(out)


def segments(routes: Sequence[Patches], lengths: Sequence[int]) -> Mapping[str, Patch]:
    """The route where each segment of one row of tokens has a route of its own.

    Args:
        routes: One for each segment, as `rows` makes it of one adapter.
        lengths: Tokens of each.
    """
    if len(routes) == 1:
        return routes[0]
    names = dict.fromkeys(name for route in routes for name in route)
    return {name: Segments([route.get(name) for route in routes], lengths) for name in names}


def _gives(made: Tensor) -> Linear:
    return lambda x: made
