"""What a run has to compute (forwards, floating point operations, random numbers), and how long that takes.

    seconds = layers run * seconds a layer + operations * seconds each + numbers perturbed * seconds each

The first term is the time that a layer takes however few tokens go through it: for kernel launches, and for the
expansion of its weights. A product of (T, D) and (D, O) counts as 2 T D O operations. Answers that the objective
generates are counted at their longest. Not counted: answers that evaluations generate, the output head, reading and
writing files.
"""

import math
from dataclasses import dataclass

from steerzo_edge.estimate.anatomy import Anatomy
from steerzo_edge.estimate.plan import planned
from steerzo_edge.estimate.work import Trained, Work
from steerzo_edge.estimate.zeroth_order import CACHED_PREFIX, Plan
from steerzo_edge.model.layers import layer_index
from steerzo_edge.settings.profile import Profile
from steerzo_edge.zo.tuning import FOLLOWED, PAIRS, RADII, RUNGS


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a device is, in seconds.

    Args:
        layer: Time of one decoder layer however few tokens there are.
        operation: Time of one floating point operation, in addition to that.
        number: Time of one trained number in one probe: drawn, added, stored.
    """

    layer: float
    operation: float
    number: float


@dataclass(frozen=True, slots=True)
class Effort:
    """The amount of computation.

    Args:
        forwards: Probes; one that generates text counts once.
        evaluations: Evaluations on the validation rows.
        tokens: Tokens of rows put through the model, those of evaluations included; generated ones are not.
        layers: Decoder layers run; a layer run for several stacked probes counts once.
        operations: Floating point operations in them.
        numbers: Trained numbers that are perturbed, summed over all probes.
    """

    forwards: int = 0
    evaluations: int = 0
    tokens: float = 0.0
    layers: float = 0.0
    operations: float = 0.0
    numbers: float = 0.0

    def __add__(self, other: "Effort") -> "Effort":
        return Effort(
            self.forwards + other.forwards,
            self.evaluations + other.evaluations,
            self.tokens + other.tokens,
            self.layers + other.layers,
            self.operations + other.operations,
            self.numbers + other.numbers,
        )

    def __mul__(self, times: int) -> "Effort":
        return Effort(
            self.forwards * times,
            self.evaluations * times,
            self.tokens * times,
            self.layers * times,
            self.operations * times,
            self.numbers * times,
        )

    def seconds(self, speed: Speed) -> float:
        """Seconds that it takes on a device of that speed."""
        return self.layers * speed.layer + self.operations * speed.operation + self.numbers * speed.number


def run_effort(profile: Profile, body: Anatomy, trained: Trained, work: Work) -> Effort:
    """The computation of a whole run, if nothing ends it early.

    Args:
        profile: The settings.
        body: The model's sizes.
        trained: The subset's sizes.
        work: Sizes of the rows.
    """
    step = step_effort(profile, body, trained, work)
    tuning = _tuning_forwards(profile)
    searched = _part(step, tuning) if trained.exact_layer is None else _whole_forwards(body, work, tuning)
    found = step * profile.steps + searched + _evaluations(profile, body, trained, work)
    if trained.first_layer and _keeps(profile, body, work):
        passes = max(1, math.ceil(work.rows_tokens / (work.longest * work.examples)))
        found += _through(body, range(trained.first_layer), work.rows_tokens, work.mean, passes)
    return found


def step_effort(profile: Profile, body: Anatomy, trained: Trained, work: Work, plan: Plan | None = None) -> Effort:
    """The computation of one step on rows of mean length; if blocks of layers take turns, the mean over them.

    Args:
        profile: The settings.
        body: The model's sizes.
        trained: The subset's sizes.
        work: Sizes of the rows.
        plan: How the run uses memory; None finds it.
    """
    cost = profile.method.cost
    plan = plan or planned(profile, body, work, device="cpu")
    parts = max(1, math.ceil(work.examples * work.mean / plan.part_tokens))
    passes = parts * -(-cost // plan.probes)
    if trained.exact_layer is not None:
        return _exact_step(profile, body, trained, work, plan, parts, trained.exact_layer)
    if profile.objective.generates:
        length = work.mean + profile.objective.answer_tokens
        layers = _generation(profile, body, work, passes)
    else:
        length = work.mean
        layers = _rows_once(profile, body, trained, work, passes)
    adapters = 0 if trained.rank == 0 else 2 * cost * work.examples * length * (trained.size + trained.frozen)
    return Effort(
        forwards=cost,
        tokens=cost * work.examples * work.mean,
        layers=layers.layers,
        operations=layers.operations + adapters,
        numbers=cost * trained.size / len(_block_starts(profile, body, trained)),
    )


def layer_operations(body: Anatomy, layer: int, tokens: float, length: float) -> float:
    """Floating point operations of one decoder layer.

    Args:
        body: The model's sizes.
        layer: From 0.
        tokens: How many tokens go through it.
        length: Tokens of the rows that they are in.
    """
    weights = sum(p.inputs * p.outputs for p in body.projections if layer_index(p.name) == layer)
    return tokens * (2 * weights + 4 * body.queries * length)


def _through(body: Anatomy, layers: range, tokens: float, length: float, passes: int) -> Effort:
    operations = sum(layer_operations(body, layer, tokens, length) for layer in layers)
    return Effort(layers=len(layers) * passes, operations=operations)


def _rows_once(profile: Profile, body: Anatomy, trained: Trained, work: Work, passes: int) -> Effort:
    """The decoder layers of a step whose probes read the rows: those below a block once, the others per probe."""
    cost, tokens = profile.method.cost, work.examples * work.mean
    kept = trained.first_layer if _keeps(profile, body, work) else 0
    starts = _block_starts(profile, body, trained)
    below = sum((_through(body, range(kept, start), tokens, work.mean, 1) for start in starts), Effort())
    above = sum(
        (_through(body, range(start, body.layers), cost * tokens, work.mean, passes) for start in starts), Effort()
    )
    return Effort(
        layers=(below.layers + above.layers) / len(starts),
        operations=(below.operations + above.operations) / len(starts),
    )


def _exact_step(
    profile: Profile, body: Anatomy, trained: Trained, work: Work, plan: Plan, parts: int, first: int
) -> Effort:
    """A forward, one more of the layers with exact gradients that are not kept, and a backward pass through them.

    The backward pass has as many products as a forward, because frozen weights have no gradient; weights that are
    trained whole have as many again. Probes, if there are any, go through the trained layers below.
    """
    tokens, probes = work.examples * work.mean, profile.method.probes
    kept = trained.first_layer if _keeps(profile, body, work) else 0
    below = _through(body, range(kept, first), tokens, work.mean, parts)
    above = _through(body, range(first, body.layers), tokens, work.mean, parts)
    probed = _through(
        body, range(trained.first_layer, first), probes * tokens, work.mean, parts * -(-probes // plan.probes)
    )
    again = 1 - plan.kept_layers / max(1, body.layers - first)
    times = 2 + again + (1 if trained.rank == 0 else 0)
    adapters = 0.0
    if trained.rank:
        share = (trained.exact_size * 3 + trained.block * probes) / trained.size
        adapters = 2 * tokens * (trained.size + trained.frozen) * share
    return Effort(
        forwards=1 + probes,
        tokens=(1 + probes) * tokens,
        layers=below.layers + times * above.layers + probed.layers,
        operations=below.operations + times * above.operations + probed.operations + adapters,
        numbers=probes * trained.block,
    )


def _whole_forwards(body: Anatomy, work: Work, forwards: int) -> Effort:
    """So many forwards of a batch through all layers."""
    tokens = forwards * work.examples * work.mean
    through = _through(body, range(body.layers), tokens, work.mean, forwards)
    return through + Effort(forwards=forwards, tokens=tokens)


def _generation(profile: Profile, body: Anatomy, work: Work, passes: int) -> Effort:
    """The decoder layers of a step whose probes generate: prompts as long as the rows, then a forward per token."""
    rows, answer = profile.method.cost * work.examples, profile.objective.answer_tokens
    everything = range(body.layers)
    prompts = _through(body, everything, rows * work.mean, work.mean, passes)
    return prompts + _through(body, everything, rows * answer, work.mean + answer, passes * answer)


def _block_starts(profile: Profile, body: Anatomy, trained: Trained) -> list[int]:
    """The lowest layer of each block."""
    layers = sorted({layer_index(projection.name) for projection in trained.projections})
    return layers[:: profile.subset.block_layers or len(layers)]


def _tuning_forwards(profile: Profile) -> int:
    method, rate = profile.method, profile.rule.learning_rate
    if not method.searches(rate):
        return 0
    radius = 2 * PAIRS * len(RADII) if method.epsilon == "auto" else 0
    searched = isinstance(method.probe_rate(rate), str)
    return radius + (FOLLOWED * (method.probes + 1 + len(RUNGS)) if searched else 0)


def _part(step: Effort, forwards: int) -> Effort:
    """A number of forwards like those of a step."""
    share = forwards / step.forwards
    return Effort(
        forwards, 0, step.tokens * share, step.layers * share, step.operations * share, step.numbers * share
    )


def _evaluations(profile: Profile, body: Anatomy, trained: Trained, work: Work) -> Effort:
    if not work.validation_tokens:
        return Effort()
    kept = trained.first_layer if _keeps(profile, body, work) else 0
    passes = math.ceil(work.validation_tokens / (work.longest * work.examples))
    once = _through(body, range(kept, body.layers), work.validation_tokens, work.mean, passes)
    times = 1 + -(-profile.steps // profile.evaluate.every)  # before the first step, and always at the end
    return (once + Effort(evaluations=1, tokens=work.validation_tokens)) * times


def _keeps(profile: Profile, body: Anatomy, work: Work) -> bool:
    """Whether the hidden states that enter the lowest trained layer are kept for all rows."""
    memory = profile.batch.prefix_memory_mib
    room = (CACHED_PREFIX if memory == "auto" else memory << 20) + (profile.batch.prefix_disk_mib << 20)
    return body.hidden * profile.model.dtype.itemsize * work.rows_tokens <= room
