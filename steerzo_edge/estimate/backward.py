"""Memory of a run with exact gradients on this engine, part by part, and its plans from the fastest to the leanest.

The counts follow `training/gradients.py`: inputs of all layers from the lowest trained one up, what autograd saves
of one layer or of every kept one, one layer's backward pass, and one block of the vocabulary with its gradient.
"""

from collections.abc import Iterator, Sequence
from itertools import product

from steerzo_edge.estimate.anatomy import Anatomy
from steerzo_edge.estimate.exact import COMPOSED, saved_inputs, working_bytes
from steerzo_edge.estimate.memory_needs import MemoryNeeds
from steerzo_edge.estimate.work import Trained, Work
from steerzo_edge.estimate.zeroth_order import (
    FLOAT32,
    GAPS,
    LONG_LIVED,
    SERVED_COPIES,
    Plan,
    expanded_bytes,
    head_bytes,
    moments,
    prefix_bytes,
    score_bytes,
    with_gaps,
)
from steerzo_edge.model.layers import layer_index
from steerzo_edge.settings.profile import Profile


def backward_needs(
    profile: Profile, body: Anatomy, trained: Trained, work: Work, plan: Plan, *, device: str
) -> MemoryNeeds:
    """Bytes of this profile's run with exact gradients, by part.

    Args:
        profile: The settings.
        body: The model's sizes.
        trained: The subset's sizes.
        work: The largest batch.
        plan: How it uses memory.
        device: "cpu" or "cuda".
    """
    itemsize = profile.model.dtype.itemsize
    layers = range(trained.first_layer, body.layers)
    tokens = min(work.tokens, plan.part_tokens)
    saved = [_saved_bytes(body, trained, layer, itemsize) for layer in layers]
    kept = sum(saved[len(saved) - plan.kept_layers :]) if plan.kept_layers else max(saved)
    activations = tokens * working_bytes(body, itemsize) + score_bytes(body, work, device)
    return MemoryNeeds(
        {
            "base weights": body.weight_bytes(profile.model.quantization, itemsize),
            "expanded weight": expanded_bytes(profile, body, itemsize),
            "adapter": FLOAT32 * trained.size + (FLOAT32 + itemsize) * trained.frozen,
            "copies of it": itemsize * (1 + SERVED_COPIES) * trained.size,
            "gradients": FLOAT32 * trained.size,
            "update rule": FLOAT32 * moments(profile) * trained.size,
            "layer inputs": tokens * body.hidden * itemsize * len(layers),
            "saved activations": tokens * kept,
            "activations": activations,
            "logits": head_bytes(
                body, tokens, min(work.places, tokens), itemsize, plan.head_bytes, freed=activations
            ),
            "frozen prefix": prefix_bytes(plan, body, trained, work, itemsize),
        }
    )


def exact_plans(
    trained_layers: int,
    work: Work,
    *,
    room: int,
    block_tokens: int,
    prefixes: Sequence[int],
    heads: Sequence[int],
    frugal: bool,
) -> Iterator[Plan]:
    """Plans of a run with exact gradients: fewer kept layers first, then a smaller cache, then a batch in parts.

    Args:
        trained_layers: Layers that the backward pass goes through.
        work: Of the largest batch.
        room: Tokens that no batch has more of.
        block_tokens: As in `Plan`.
        prefixes: Bytes of hidden states of frozen layers that may be kept, most first.
        heads: Bytes of a block of the output head, most first.
        frugal: As in `Plan`.
    """
    shares = dict.fromkeys(trained_layers * quarters // 4 for quarters in (4, 3, 2, 1, 0))
    for kept in shares:
        for prefix, head in product(prefixes, heads):
            yield Plan(1, room, block_tokens, 0, prefix, head, frugal=frugal, kept_layers=kept)
    parts = 2
    while parts <= work.examples and room // parts >= work.longest:
        part = max(work.longest, -(-work.tokens // parts))
        yield Plan(1, part, min(part, block_tokens), 0, prefixes[-1], heads[-1], frugal=True)
        parts *= 2


def backward_in_process(needs: MemoryNeeds, body: Anatomy) -> MemoryNeeds:
    """The needs with what a process on a CPU holds besides the tensors."""
    # What is kept from the forward to the backward pass leaves no gaps. Measured with SmolLM2, all layers, 16 rows
    # of SST-2: besides the loaded base a run took 62 MiB with `lean` and 262 with `fast`; estimated: 108 and 340.
    kept = ("gradients", "layer inputs", "saved activations")
    return with_gaps(needs, body, GAPS, (*LONG_LIVED, *kept))


def _saved_bytes(body: Anatomy, trained: Trained, layer: int, itemsize: int) -> int:
    """Bytes that autograd keeps of one decoder layer here, for one token.

    Norms keep what they keep in `transformers`. Attention keeps packed queries, keys and values. A frozen product
    keeps nothing; an adapter keeps the R numbers that B multiplies, and a trained A or a whole weight its input.
    """
    norms = sum(body.norms) * (FLOAT32 if body.float32_norms else itemsize)
    attention = itemsize * (body.queries + 2 * body.keys)
    mlp = itemsize * body.intermediate * (COMPOSED.get(body.activation, 1) + 2 * body.gated)
    own = [projection for projection in trained.projections if layer_index(projection.name) == layer]
    low = itemsize * trained.rank * len(own)
    inputs = itemsize * sum(saved_inputs(body, own)) if trained.keeps_inputs else 0
    return norms + attention + mlp + low + inputs
