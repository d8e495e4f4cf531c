"""Memory of a zeroth-order run, part by part: what `assemble` builds, and the highest point of one forward.

Not counted: the Python and CUDA runtimes, requests that are served meanwhile, and pools of recorded CUDA graphs.
"""

from steerzo_edge.assemble import LEAN_NOISE_BYTES, probes_per_forward
from steerzo_edge.estimate.anatomy import Anatomy
from steerzo_edge.estimate.exact import COMPOSED
from steerzo_edge.estimate.parts import Needs
from steerzo_edge.estimate.work import Trained, Work
from steerzo_edge.model.attention import QUERIES, SCORE_BYTES
from steerzo_edge.model.head import BLOCK_BYTES
from steerzo_edge.model.quantization import STORAGES
from steerzo_edge.settings.profile import Profile
from steerzo_edge.settings.sections import AdamConfig, MomentumConfig
from steerzo_edge.zo.noise import CACHE_BYTES

FLOAT32 = 4
INDEX = 8
# Versions of the subset besides the perturbed ones: what a running job serves, and what evaluation looks at.
SERVED_COPIES = 2
# Score-sized tensors of attention that are alive at once: scores, their softmax, and that in the compute type.
SCORE_TENSORS = 2.5


def zeroth_order_needs(profile: Profile, body: Anatomy, trained: Trained, work: Work, *, device: str) -> Needs:
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
    resting = 1 if trained.block < trained.size else 0
    tokens = max(copies * work.tokens, room)
    activations = layer_bytes(body, itemsize, tokens, scores=_scores(body, work, device))
    return Needs(
        {
            "base weights": body.weight_bytes(profile.model.quantization, itemsize),
            "expanded weight": _expanded(profile, body, itemsize),
            "adapter": FLOAT32 * trained.size + (FLOAT32 + itemsize) * trained.frozen,
            "copies of it": itemsize * (copies * trained.block + (SERVED_COPIES + resting) * trained.size),
            "update rule": FLOAT32 * _moments(profile) * trained.size,
            "noise": _noise(profile, trained),
            "activations": activations,
            "logits": _head(body, tokens, copies * work.places, itemsize, at_hand=activations),
            "frozen prefix": _prefix(profile, body, trained, work, itemsize),
        }
    )


def stacked_probes(profile: Profile, trained: Trained, work: Work) -> int:
    """Most probes in one forward, as `assemble` has it.

    Args:
        profile: The settings.
        trained: The subset's sizes.
        work: The largest batch.
    """
    room = work.longest * work.examples
    copy = trained.size * profile.model.dtype.itemsize
    return min(profile.method.cost, probes_per_forward(profile.batch.probes_per_forward, room, copy))


def layer_bytes(body: Anatomy, itemsize: int, tokens: int, *, scores: int = 0) -> int:
    """The highest point of a forward without a graph: one layer's tensors, the residual stream among them.

    Args:
        body: The model's sizes.
        itemsize: Bytes of the compute type.
        tokens: That go through it at once, copies included.
        scores: Bytes of attention's scores; they are gone when the MLP begins.

    Note:
        Attention holds the stream, its normed copy, twice the queries, keys and values (packed, and laid out row by
        row), and twice the result (laid out, and packed again). A gated MLP holds the stream, its normed copy, both
        branches and their product; a plain one holds what its activation is given and gives, and what that holds on
        the way if it is made of several operations.
    """
    attention = 2 * body.hidden + 2 * (body.queries + 2 * body.keys) + 2 * body.queries
    inside = 3 if body.gated else max(2, COMPOSED.get(body.activation, 1))
    mlp = 2 * body.hidden + inside * body.intermediate
    places = 2 * INDEX * body.heads  # where each head's vector lies in the layout, there and back
    return tokens * places + max(tokens * itemsize * attention + scores, tokens * itemsize * mlp)


def _expanded(profile: Profile, body: Anatomy, itemsize: int) -> int:
    return body.largest_weight * itemsize if STORAGES[profile.model.quantization].quantized else 0


def _moments(profile: Profile) -> int:
    return 2 if isinstance(profile.rule, AdamConfig) else int(isinstance(profile.rule, MomentumConfig))


def _noise(profile: Profile, trained: Trained) -> int:
    bound = LEAN_NOISE_BYTES if profile.batch.probes_per_forward == 1 else CACHE_BYTES
    seeds = getattr(profile.method, "pool", 1)
    return min(bound, FLOAT32 * seeds * trained.block)


def _scores(body: Anatomy, work: Work, device: str) -> int:
    """On a CPU a chunk of scores is computed at a time; CUDA's kernels keep none."""
    if device != "cpu":
        return 0
    row = FLOAT32 * body.heads * min(work.longest, QUERIES) * work.longest
    return round(SCORE_TENSORS * min(max(SCORE_BYTES, row), row * work.examples))


def _head(body: Anatomy, tokens: int, places: int, itemsize: int, *, at_hand: int) -> int:
    """The last hidden states in float32, and one block of the vocabulary with its logits: what goes beyond the
    memory at hand, which the layers have left.
    """
    if places == 0:
        return 0
    columns = min(body.vocabulary, BLOCK_BYTES // (2 * FLOAT32 * body.hidden))
    rows = min(places, BLOCK_BYTES // (2 * FLOAT32 * columns))
    block = FLOAT32 * columns * (body.hidden + 2 * rows)  # logits, and their exponentials
    stream = itemsize * body.hidden * tokens
    return max(0, stream + FLOAT32 * places * body.hidden + block - at_hand)


def _prefix(profile: Profile, body: Anatomy, trained: Trained, work: Work, itemsize: int) -> int:
    """What enters the lowest trained layer: of all rows as far as there is room, else of one batch."""
    if trained.first_layer == 0:
        return 0
    row = body.hidden * itemsize
    memory = profile.batch.prefix_memory_mib << 20
    held = min(memory, row * work.rows_tokens) if work.rows_tokens else memory
    return held + row * work.tokens
