"""Memory of a zeroth-order run, part by part: the parts that `assemble` builds, and the peak of one forward.

Not counted: the Python and CUDA runtimes, and requests that are served meanwhile.
"""

from steerzo_edge.assemble import LEAN_NOISE_BYTES, probes_per_forward
from steerzo_edge.estimate.anatomy import Anatomy
from steerzo_edge.estimate.exact import COMPOSED
from steerzo_edge.estimate.memory_needs import MemoryNeeds
from steerzo_edge.estimate.work import Trained, Work
from steerzo_edge.model.attention import QUERIES, SCORE_BYTES
from steerzo_edge.model.head import BLOCK_BYTES
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


def zeroth_order_needs(
    profile: Profile, body: Anatomy, trained: Trained, work: Work, *, device: str
) -> MemoryNeeds:
    """Bytes of this profile's run, by part.

    Args:
        profile: The settings.
        body: The model's sizes.
        trained: The subset's sizes.
        work: The largest batch.
        device: "cpu" or "cuda".
    """
    itemsize = profile.model.dtype.itemsize
    room = work.longest * work.examples
    copies = stacked_probes(profile, trained, work)
    unperturbed = 1 if trained.block < trained.size else 0
    tokens = max(copies * work.tokens, room)
    activations = layer_bytes(body, itemsize, tokens, scores=_scores(body, work, device))
    return MemoryNeeds(
        {
            "base weights": body.weight_bytes(profile.model.quantization, itemsize),
            "expanded weight": _expanded(profile, body, itemsize),
            "adapter": FLOAT32 * trained.size + (FLOAT32 + itemsize) * trained.frozen,
            "copies of it": itemsize * (copies * trained.block + (SERVED_COPIES + unperturbed) * trained.size),
            "update rule": FLOAT32 * _moments(profile) * trained.size,
            "noise": _noise(profile, trained),
            "activations": activations,
            "logits": _head(body, tokens, copies * work.places, itemsize, freed=activations),
            "frozen prefix": _prefix(profile, body, trained, work, itemsize),
        }
    )


def stacked_probes(profile: Profile, trained: Trained, work: Work) -> int:
    """Most probes in one forward, by the rule of `assemble`.

    Args:
        profile: The settings.
        trained: The subset's sizes.
        work: The largest batch.
    """
    room = work.longest * work.examples
    copy = trained.size * profile.model.dtype.itemsize
    return min(profile.method.cost, probes_per_forward(profile.batch.probes_per_forward, room, copy))


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


def _expanded(profile: Profile, body: Anatomy, itemsize: int) -> int:
    return body.largest_weight * itemsize if STORAGES[profile.model.quantization].quantized else 0


def _moments(profile: Profile) -> int:
    return 2 if isinstance(profile.rule, AdamConfig) else int(isinstance(profile.rule, MomentumConfig))


def _noise(profile: Profile, trained: Trained) -> int:
    bound = LEAN_NOISE_BYTES if profile.batch.probes_per_forward == 1 else CACHE_BYTES
    return min(bound, FLOAT32 * profile.method.seeds * trained.block)


def _scores(body: Anatomy, work: Work, device: str) -> int:
    """Bytes of attention's scores: on a CPU they are computed chunk by chunk, and CUDA's kernels keep none."""
    if device != "cpu":
        return 0
    row = FLOAT32 * body.heads * min(work.longest, QUERIES) * work.longest
    return round(SCORE_TENSORS * min(max(SCORE_BYTES, row), row * work.examples))


def _head(body: Anatomy, tokens: int, places: int, itemsize: int, *, freed: int) -> int:
    """Bytes of the output head: the last hidden states in float32, and one block of the vocabulary with its logits.

    Only the part counts that goes beyond `freed`, the memory that the layers have freed before.
    """
    if places == 0:
        return 0
    columns = min(body.vocabulary, BLOCK_BYTES // (2 * FLOAT32 * body.hidden))
    rows = min(places, BLOCK_BYTES // (2 * FLOAT32 * columns))
    block = FLOAT32 * columns * (body.hidden + 2 * rows)  # logits, and their exponentials
    stream = itemsize * body.hidden * tokens
    return max(0, stream + FLOAT32 * places * body.hidden + block - freed)


def _prefix(profile: Profile, body: Anatomy, trained: Trained, work: Work, itemsize: int) -> int:
    """Bytes of hidden states kept below the lowest trained layer: of all rows within the bound, and of a batch."""
    if trained.first_layer == 0:
        return 0
    row = body.hidden * itemsize
    memory = profile.batch.prefix_memory_mib << 20
    held = min(memory, row * work.rows_tokens) if work.rows_tokens else memory
    return held + row * work.tokens
