"""The gradient of attention, computed from queries, keys and values alone, chunk by chunk.

Scores and softmax are computed again for some rows and queries at a time, as in the forward pass, so that no tensor
of the size (rows, heads, W, W) is kept between the two passes. Source: arXiv:2205.14135, appendix B.

    P = softmax(S),  dV = P^T dO,  dP = dO V^T,  dS = P (dP - rowsum(dP P)),  dQ = dS K,  dK = dS^T Q
"""

from itertools import product

import torch
from torch import Tensor

from steerzo_edge.model.matmul import product_dtype


def attention_gradient(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gradient: Tensor,
    additive: Tensor,
    *,
    scale: float,
    cap: float | None,
    row_step: int,
    query_step: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes the gradients of queries, keys and values.

    Args:
        q: (rows, H, W, d).
        k: (rows, H / g, W, d).
        v: As k.
        gradient: Of attention's result; as q.
        additive: (n or 1, 1, W, W) float32: 0 where a token attends to another, -inf elsewhere. Row i uses i mod n.
        scale: Of the scores.
        cap: Scores are soft-capped to it (Gemma 2), or None.
        row_step: Rows in a chunk.
        query_step: Queries in a chunk.

    Returns:
        Gradients in the shapes and types of q, k and v.
    """
    rows, heads, width, depth = q.shape
    shared = k.shape[1]
    q, gradient = (part.reshape(rows, shared, heads // shared, width, depth) for part in (q, gradient))
    dq, kind = torch.empty_like(q), product_dtype(q)
    dk, dv = (torch.zeros(k.shape, dtype=torch.float32, device=k.device) for _ in range(2))
    additive = additive.unsqueeze(2)  # (n or 1, 1, 1, W, W)
    for start, first in product(range(0, rows, row_step), range(0, width, query_step)):
        part, asking = slice(start, start + row_step), slice(first, first + query_step)
        end = min(asking.stop, width)  # causal: no later keys
        asked, given = (
            tensor[part, :, :, asking].flatten(2, 3).to(kind) for tensor in (q, gradient)
        )  # (n, H / g, g * w, d)
        keys, values = (tensor[part, :, :end].to(kind) for tensor in (k, v))
        bias = additive[..., asking, :end]
        bias = bias if len(bias) == 1 else bias[torch.arange(rows)[part] % len(bias)]
        scores = (asked @ keys.transpose(2, 3)).float().view(-1, shared, heads // shared, end - first, end)
        slope = None
        if cap is not None:
            scores = torch.tanh(scores.mul_(scale / cap))
            slope = 1 - scores.square()
            weights = scores.mul_(cap).add_(bias).softmax(-1)
        else:
            weights = torch.add(bias, scores, alpha=scale).softmax(-1)
        dv[part, :, :end] += weights.to(kind).flatten(2, 3).transpose(2, 3) @ given
        changed = (given @ values.transpose(2, 3)).float().view_as(weights)
        changed = weights.mul_(changed.sub_((changed * weights).sum(-1, keepdim=True))).mul_(scale)
        changed = changed if slope is None else changed.mul_(slope)
        moved = changed.to(kind).flatten(2, 3)  # (n, H / g, g * w, end)
        dq[part, :, :, asking] = (moved @ keys).view(len(keys), shared, -1, end - first, depth)
        dk[part, :, :end] += moved.transpose(2, 3) @ asked
    return dq.view(rows, heads, width, depth), dk.to(k.dtype), dv.to(v.dtype)
