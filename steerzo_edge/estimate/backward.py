"""Memory of a run with exact gradients on this engine, part by part, and its plans from the fastest to the leanest.

The counts follow `training/gradients.py`: inputs of all layers from the lowest trained one up, what autograd saves
of one layer or of every kept one, one layer's backward pass, and one block of the vocabulary with its gradient.
"""

from collections.abc import Iterator, Sequence
from itertools import product

from steerzo_edge.estimate.anatomy import Anatomy, Projection
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
    layer_bytes,
    moments,
    prefix_bytes,
    score_bytes,
    with_gaps,
)
from steerzo_edge.model.layers import layer_index
from steerzo_edge.settings.profile import Profile

# What steps leave in the process after the heap's gaps are returned: compiled kernels, and pages of the libraries
# that a backward pass uses. Measured with SmolLM2 and 16 rows: 26.6 MiB with all layers, 28.3 with all of them
# kept, 26.5 with the top quarter.
KERNEL_BYTES = 27 << 20


def backward_needs(
    profile: Profile, body: Anatomy, trained: Trained, work: Work, plan: Plan, *, device: str
) -> MemoryNeeds:
    """Bytes of this profile's run with exact gradients, for all trained layers or the topmost ones, by part.

    A hybrid step first computes the exact gradients and then measures its probes; before the first step, settings
    left to "auto" are searched for with whole forwards. The phase that needs the most counts.

    Args:
        profile: The settings.
        body: The model's sizes.
        trained: The subset's sizes.
        work: The largest batch.
        plan: How it uses memory.
        device: "cpu" or "cuda".
    """
    itemsize = profile.model.dtype.itemsize
    below = trained.size - trained.exact_size
    copies = (1 + SERVED_COPIES) * trained.size
    phases = [_backward_phase(body, trained, work, plan, itemsize, device)]
    if below:
        copies += plan.probes * below + trained.exact_size  # the probes, and what is not perturbed
        phases.append(_probe_phase(profile, body, trained, work, plan, device, head=False))
        if profile.method.searches(profile.rule.learning_rate):
            phases.append(_probe_phase(profile, body, trained, work, plan, device, head=True))
    largest = max(phases, key=lambda phase: sum(phase.values()))
    return MemoryNeeds(
        {
            "base weights": body.weight_bytes(profile.model.quantization, itemsize),
            "expanded weight": expanded_bytes(profile, body, device),
            "adapter": FLOAT32 * trained.size + (FLOAT32 + itemsize) * trained.frozen,
            "copies of it": itemsize * copies,
            "gradients": FLOAT32 * trained.exact_size,
            "update rule": FLOAT32 * moments(profile) * trained.exact_size,
            **largest,
            "frozen prefix": prefix_bytes(plan, body, trained, work, itemsize),
        }
    )


def _backward_phase(
    body: Anatomy, trained: Trained, work: Work, plan: Plan, itemsize: int, device: str
) -> dict[str, int]:
    """Bytes that live from the forward to the end of the backward pass."""
    assert trained.exact_layer is not None
    layers = range(trained.exact_layer, body.layers)
    tokens = min(work.tokens, plan.part_tokens)
    saved = _saved_bytes(body, trained, layers, itemsize)
    kept = sum(saved[len(saved) - plan.kept_layers :]) if plan.kept_layers else max(saved)
    activations = tokens * working_bytes(body, itemsize) + score_bytes(body, work, device)
    return {
        "layer inputs": tokens * body.hidden * itemsize * len(layers),
        "saved activations": tokens * kept,
        "activations": activations,
        "logits": head_bytes(body, tokens, min(work.places, tokens), itemsize, plan.head_bytes, freed=activations),
    }


def _probe_phase(
    profile: Profile, body: Anatomy, trained: Trained, work: Work, plan: Plan, device: str, *, head: bool
) -> dict[str, int]:
    """Bytes that live while probes are measured: below the exact layers or, with the head, in all layers."""
    itemsize = profile.model.dtype.itemsize
    tokens = plan.probes * min(work.tokens, plan.part_tokens)
    activations = layer_bytes(body, itemsize, tokens, scores=score_bytes(body, work, device))
    logits = head_bytes(body, tokens, plan.probes * work.places, itemsize, plan.head_bytes, freed=activations)
    return {
        "noise": min(plan.noise_bytes, FLOAT32 * profile.method.seeds * trained.block),
        "layer inputs": 0 if head else work.tokens * body.hidden * itemsize,  # the gradient of what enters them
        "activations": activations,
        "logits": logits if head else 0,
    }


def exact_plans(
    exact_layers: int,
    work: Work,
    *,
    room: int,
    block_tokens: int,
    probed: Sequence[tuple[int, int, int]],
    heads: Sequence[int],
    frugal: bool,
) -> Iterator[Plan]:
    """Plans of a run with exact gradients: fewer probes at once and smaller caches, fewer kept layers, then parts.

    Args:
        exact_layers: Layers that the backward pass goes through.
        work: Of the largest batch.
        room: Tokens that no batch has more of.
        block_tokens: As in `Plan`.
        probed: Probes in a forward, bytes of noise, and bytes of hidden states of frozen layers that may be kept,
            most first; without probes the first two are 1 and 0.
        heads: Bytes of a block of the output head, most first.
        frugal: As in `Plan`.
    """
    shares = list(dict.fromkeys(exact_layers * quarters // 4 for quarters in (4, 3, 2, 1, 0)))
    counts = list(dict.fromkeys(probes for probes, _, _ in probed))
    for probes, kept in product(counts, shares):
        caches = [(noise, prefix) for count, noise, prefix in probed if count == probes]
        for (noise, prefix), head in product(caches, heads):
            yield Plan(probes, room, block_tokens, noise, prefix, head, frugal=frugal, kept_layers=kept)
    probes, noise, prefix = probed[-1]
    parts = 2
    while parts <= work.examples and room // parts >= work.longest:
        part = max(work.longest, -(-work.tokens // parts))
        yield Plan(probes, part, min(part, block_tokens), noise, prefix, heads[-1], frugal=True)
        parts *= 2


def backward_in_process(needs: MemoryNeeds, body: Anatomy) -> MemoryNeeds:
    """The needs with what a process on a CPU holds besides the tensors.

    What is kept from the forward to the backward pass lies between tensors that are freed at once. glibc does not
    use the gap that an aligned block leaves for another of the same size (2.36: 100 MiB kept between blocks that
    are freed take 200 MiB), so gaps grow with what is kept too.
    """
    found = with_gaps(needs, body, GAPS, (*LONG_LIVED, "gradients"))
    return MemoryNeeds({**found, "kernels": KERNEL_BYTES})


def _saved_bytes(body: Anatomy, trained: Trained, layers: range, itemsize: int) -> list[int]:
    """Bytes that autograd keeps of some decoder layers here, for one token.

    Norms keep what they keep in `transformers`. Attention keeps packed queries, keys and values, not its result. A
    frozen product keeps nothing; an adapter keeps the R numbers that B multiplies, and a trained A or a whole
    weight its input, the result of attention among them.
    """
    norms = sum(body.norms) * (FLOAT32 if body.float32_norms else itemsize)
    attention = itemsize * (body.queries + 2 * body.keys)
    mlp = itemsize * body.intermediate * (COMPOSED.get(body.activation, 1) + 2 * body.gated)
    owned: dict[int, list[Projection]] = {layer: [] for layer in layers}
    for projection in trained.projections:
        if (layer := layer_index(projection.name)) in owned:
            owned[layer].append(projection)
    return [
        norms
        + attention
        + mlp
        + itemsize * trained.rank * len(own)
        + (itemsize * sum(saved_inputs(body, own, result_kept=False)) if trained.keeps_inputs else 0)
        for own in owned.values()
    ]
