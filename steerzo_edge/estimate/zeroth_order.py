"""Memory of a zeroth-order run, part by part: the parts that `assemble` builds, and the peak of one forward.

Not counted: the Python and CUDA runtimes, and requests that are served meanwhile.
"""

from dataclasses import dataclass

from steerzo_edge.estimate.anatomy import Anatomy
from steerzo_edge.estimate.exact import COMPOSED
from steerzo_edge.estimate.memory_needs import MemoryNeeds
from steerzo_edge.estimate.work import Trained, Work
from steerzo_edge.model.attention import QUERIES, SCORE_BYTES
from steerzo_edge.model.matmul import is_native
from steerzo_edge.model.quantization import STORAGES
from steerzo_edge.settings.profile import Profile
from steerzo_edge.settings.sections import AdamConfig, MomentumConfig
from steerzo_edge.zo.noise import CACHE_BYTES

FLOAT32 = 4
INDEX = 8
# Copies of the subset besides the perturbed ones: one that a running job serves, and one that evaluation uses.
SERVED_COPIES = 2
# Tensors of the size of attention's scores that are alive at once: scores, softmax, and softmax in the compute
# type.
SCORE_TENSORS = 2.5
# Bytes of noise kept within a step, and of hidden states kept for a run, where memory is no concern.
CACHED_NOISE = CACHE_BYTES
CACHED_PREFIX = 512 << 20
# Noise kept within a step where it is.
LEAN_NOISE = 8 << 20
# On a CPU the process holds more than the live tensors. What it keeps after a load and a run, and what a tokenizer
# takes for each token, were measured with the bundled base and made-up tokenizers (benchmarks/kept_memory.py). The
# gaps in glibc's heap between short-lived tensors are fitted to the grid of benchmarks/estimate_error.py.
PROCESS_BYTES = 45 << 20
TOKEN_BYTES = 360
GAPS = 0.83
# With back-propagation gaps take more: the process holds 1.3 to 2.7 times the live tensors (docs/estimate.md).
EXACT_GAPS = 1.5
LONG_LIVED = ("base weights", "adapter", "copies of it", "update rule", "noise", "frozen prefix")
EXACT_LONG_LIVED = ("base weights", "adapter")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run uses memory; see `plan.py`.

    Args:
        probes: Most probes in one forward.
        part_tokens: Most tokens of a batch in one forward, for one probe; a larger batch goes through in parts.
        block_tokens: Most tokens in one forward of an evaluation, or of the frozen layers for the prefix.
        noise_bytes: Noise kept within a step.
        prefix_bytes: Hidden states of frozen layers kept in memory.
        head_bytes: Of a block of the output head: see `Head`.
        frugal: Whether the heap's gaps are returned between batches.
        kept_layers: With exact gradients: the topmost layers that keep what autograd saves; others run twice.
    """

    probes: int
    part_tokens: int
    block_tokens: int
    noise_bytes: int
    prefix_bytes: int
    head_bytes: int
    frugal: bool
    kept_layers: int = 0


def zeroth_order_needs(
    profile: Profile, body: Anatomy, trained: Trained, work: Work, plan: Plan, *, device: str
) -> MemoryNeeds:
    """Bytes of this profile's run, by part.

    Args:
        profile: The settings.
        body: The model's sizes.
        trained: The subset's sizes.
        work: The largest batch.
        plan: How it uses memory.
        device: "cpu" or "cuda".
    """
    itemsize = profile.model.dtype.itemsize
    copies = plan.probes
    unperturbed = 1 if trained.block < trained.size else 0
    tokens = max(copies * min(work.tokens, plan.part_tokens), plan.block_tokens)
    activations = layer_bytes(body, itemsize, tokens, scores=score_bytes(body, work, device))
    return MemoryNeeds(
        {
            "base weights": body.weight_bytes(profile.model.quantization, itemsize),
            "expanded weight": expanded_bytes(profile, body, device),
            "adapter": FLOAT32 * trained.size + (FLOAT32 + itemsize) * trained.frozen,
            "copies of it": itemsize * (copies * trained.block + (SERVED_COPIES + unperturbed) * trained.size),
            "update rule": FLOAT32 * moments(profile) * trained.size,
            "noise": min(plan.noise_bytes, FLOAT32 * profile.method.seeds * trained.block),
            "activations": activations,
            "logits": head_bytes(body, tokens, copies * work.places, itemsize, plan.head_bytes, freed=activations),
            "frozen prefix": prefix_bytes(plan, body, trained, work, itemsize),
        }
    )


def in_process(needs: MemoryNeeds, body: Anatomy) -> MemoryNeeds:
    """The needs of a zeroth-order run with what a process on a CPU holds besides the tensors."""
    return with_gaps(needs, body, GAPS, LONG_LIVED)


def exact_in_process(needs: MemoryNeeds, body: Anatomy) -> MemoryNeeds:
    """The needs of exact gradients with what a process on a CPU holds besides the tensors."""
    return with_gaps(needs, body, EXACT_GAPS, EXACT_LONG_LIVED)


def with_gaps(needs: MemoryNeeds, body: Anatomy, share: float, long_lived: tuple[str, ...]) -> MemoryNeeds:
    """Adds what a process on a CPU holds besides the tensors.

    Args:
        needs: By part.
        body: The model's sizes.
        share: Bytes of gaps in the heap for each byte of the parts that are not long-lived.
        long_lived: Names of the parts that are.
    """
    short_lived = sum(size for name, size in needs.items() if name not in long_lived)
    return MemoryNeeds(
        {
            **needs,
            "gaps in the heap": round(share * short_lived),
            "tokenizer": TOKEN_BYTES * body.vocabulary,
            "process": PROCESS_BYTES,
        }
    )


def layer_bytes(body: Anatomy, itemsize: int, tokens: int, *, scores: int = 0) -> int:
    """Peak bytes of a forward without autograd: the tensors of one layer, with the residual stream.

    Args:
        body: The model's sizes.
        itemsize: Bytes of the compute type.
        tokens: How many go through it at once, those of stacked copies included.
        scores: Bytes of attention's scores; they are freed before the MLP begins.

    Note:
        Attention holds the stream, its normed copy, queries, keys and values twice (packed, and laid out row by
        row), and its result twice (laid out, and packed again). A gated MLP holds the stream, its normed copy, both
        branches and their product. A plain MLP holds the input and the output of its activation, and the
        intermediate results of an activation that is made of several operations.
    """
    attention = 2 * body.hidden + 2 * (body.queries + 2 * body.keys) + 2 * body.queries
    inside = 3 if body.gated else max(2, COMPOSED.get(body.activation, 1))
    mlp = 2 * body.hidden + inside * body.intermediate
    places = 2 * INDEX * body.heads  # indices of each head's vector, for laying out and for packing again
    return tokens * places + max(tokens * itemsize * attention + scores, tokens * itemsize * mlp)


def expanded_bytes(profile: Profile, body: Anatomy, device: str) -> int:
    """Bytes of the largest linear layer, which a product expands for a moment.

    A quantized weight is expanded to the compute type; on a CPU that multiplies in float32, to that from there.

    Args:
        profile: The settings.
        body: The model's sizes.
        device: "cpu" or "cuda".
    """
    dtype = profile.model.dtype
    expanded = dtype.itemsize if STORAGES[profile.model.quantization].quantized else 0
    wide = FLOAT32 if device == "cpu" and not is_native(dtype) else 0
    return body.largest_weight * (expanded + wide)


def moments(profile: Profile) -> int:
    """Numbers that the update rule keeps for each trained number."""
    return 2 if isinstance(profile.rule, AdamConfig) else int(isinstance(profile.rule, MomentumConfig))


def score_bytes(body: Anatomy, work: Work, device: str) -> int:
    """Bytes of attention's scores: on a CPU they are computed chunk by chunk, and CUDA's kernels keep none."""
    if device != "cpu":
        return 0
    row = FLOAT32 * body.heads * min(work.longest, QUERIES) * work.longest
    return round(SCORE_TENSORS * min(max(SCORE_BYTES, row), row * work.examples))


def head_bytes(body: Anatomy, tokens: int, places: int, itemsize: int, block_bytes: int, *, freed: int) -> int:
    """Bytes of the output head: the last hidden states in float32, and one block of the vocabulary with its logits.

    Only the part counts that goes beyond `freed`, the memory that the layers have freed before.
    """
    if places == 0:
        return 0
    columns = min(body.vocabulary, max(1, block_bytes // (2 * FLOAT32 * body.hidden)))
    rows = min(places, max(1, block_bytes // (2 * FLOAT32 * columns)))
    block = FLOAT32 * columns * (body.hidden + 2 * rows)  # logits, and their exponentials
    stream = itemsize * body.hidden * tokens
    return max(0, stream + FLOAT32 * places * body.hidden + block - freed)


def prefix_bytes(plan: Plan, body: Anatomy, trained: Trained, work: Work, itemsize: int) -> int:
    """Bytes of hidden states kept below the lowest trained layer: of all rows within the bound, and of a batch."""
    if trained.first_layer == 0:
        return 0
    row = body.hidden * itemsize
    held = min(plan.prefix_bytes, row * work.rows_tokens) if work.rows_tokens else plan.prefix_bytes
    return held + row * work.tokens
