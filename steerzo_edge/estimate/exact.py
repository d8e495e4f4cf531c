"""Memory of exact gradients for the same subset and batch: LoRA with back-propagation and Adam, as in peft.

The tensors that autograd keeps are counted operation by operation, for the modules of `transformers`: attention by
torch's fused kernel over padded rows, adapters in the compute type, logits in float32 at target positions. Checked
against autograd's own list for Llama, Qwen 3, OPT and Phi 3 within 6 % (`tests/numerics/test_estimate.py`);
families that compute their attention step by step (Gemma 2) keep up to a third more.
"""

from steerzo_edge.estimate.anatomy import Anatomy, Projection
from steerzo_edge.estimate.memory_needs import MemoryNeeds
from steerzo_edge.estimate.work import Trained, Work
from steerzo_edge.model.layers import layer_index
from steerzo_edge.model.quantization import STORAGES
from steerzo_edge.settings.profile import Profile

FLOAT32 = 4
# Adam keeps a mean and a square for each number.
MOMENTS = 2
# An activation made of several operations keeps its input and three intermediate results; a single operation keeps
# its input, or, like ReLU, its result.
COMPOSED = {"gelu_new": 4, "gelu_fast": 4, "gelu_python_tanh": 4, "gelu_accurate": 4}
# float32 tensors of the logits' size at the start of the backward pass: log-probabilities and two gradients.
LOGIT_TENSORS = 3


def exact_needs(
    profile: Profile, body: Anatomy, trained: Trained, work: Work, *, checkpointing: bool
) -> MemoryNeeds:
    """Bytes of one step with exact gradients, by part.

    Args:
        profile: The settings.
        body: The model's sizes.
        trained: The subset's sizes.
        work: The largest batch.
        checkpointing: Keep only each layer's input, and compute the rest again in the backward pass.
    """
    itemsize = profile.model.dtype.itemsize
    quantized = STORAGES[profile.model.quantization].quantized
    each = [
        saved_bytes(body, trained, layer, itemsize, longest=work.longest)
        for layer in range(trained.first_layer, body.layers)
    ]
    kept = body.hidden * itemsize * len(each) + max(each) if checkpointing else sum(each)
    return MemoryNeeds(
        {
            "base weights": body.weight_bytes(profile.model.quantization, itemsize),
            "expanded weight": body.largest_weight * itemsize if quantized else 0,
            "adapter": (FLOAT32 + itemsize) * (trained.size + trained.frozen),
            "gradients": FLOAT32 * trained.size,
            "update rule": FLOAT32 * MOMENTS * trained.size,
            "saved activations": work.tokens * kept,
            "activations": work.tokens * working_bytes(body, itemsize),
            "logits": work.places * body.vocabulary * (LOGIT_TENSORS * FLOAT32 + itemsize),
        }
    )


def saved_bytes(body: Anatomy, trained: Trained, layer: int, itemsize: int, *, longest: int) -> int:
    """Bytes that autograd keeps of one decoder layer, for one token.

    Args:
        body: The model's sizes.
        trained: The subset's sizes.
        layer: From 0.
        itemsize: Bytes of the compute type.
        longest: Tokens of a padded row; the mask has a number for each.

    Note:
        RMS norms keep a float32 copy of their input, other norms the input. Fused attention keeps queries, keys and
        values (keys and values once for each query head), its result, and a normaliser per head. A gated MLP keeps
        the activation's input and both factors of the product. A frozen linear layer keeps nothing. An adapter
        keeps the R numbers that B multiplies. If A or the whole weight is trained, the layer's input is kept too,
        unless attention or a ReLU keeps it already.
    """
    norms = sum(body.norms) * (FLOAT32 if body.float32_norms else itemsize)
    attention = itemsize * 4 * body.queries + FLOAT32 * body.heads + itemsize * longest
    mlp = itemsize * body.intermediate * (COMPOSED.get(body.activation, 1) + 2 * body.gated)
    own = [projection for projection in trained.projections if layer_index(projection.name) == layer]
    low = itemsize * trained.rank * len(own)
    inputs = itemsize * sum(saved_inputs(body, own)) if trained.keeps_inputs else 0
    return norms + attention + mlp + low + inputs


def saved_inputs(body: Anatomy, projections: list[Projection], *, result_kept: bool = True) -> list[int]:
    """Widths of distinct inputs: layers of one module share their input, except the module's last layer.

    The input of the last layer is the result of attention or of the activation; ReLU's is kept already.

    Args:
        body: The model's sizes.
        projections: Layers whose inputs are kept.
        result_kept: Whether attention keeps its result anyway.
    """
    relu_kept = body.activation == "relu" and not body.gated
    found: dict[tuple[str, bool], int] = {}
    for projection in projections:
        if not (projection.gives_back and (result_kept if projection.in_attention else relu_kept)):
            found[projection.module, projection.gives_back] = projection.inputs
    return list(found.values())


def working_bytes(body: Anatomy, itemsize: int) -> int:
    """Most bytes of gradients at once in a layer's backward pass, for one token; kept tensors are not included."""
    mlp = 4 * body.intermediate + body.hidden if body.gated else 2 * (body.intermediate + body.hidden)
    attention = 6 * body.queries + 2 * body.hidden
    return itemsize * max(mlp, attention)
