"""What a run is made of: built parts that know no profile, no file layout and no server."""

from collections.abc import Callable
from dataclasses import dataclass

from steerzo_edge.data.batches import Batch
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.subset import Subset
from steerzo_edge.objectives.evaluation import Evaluation
from steerzo_edge.zo.blocks import Blocks
from steerzo_edge.zo.oracle import Oracle
from steerzo_edge.zo.rule import Rule
from steerzo_edge.zo.schedule import Schedule
from steerzo_edge.zo.strategy import Strategy
from steerzo_edge.zo.watcher import Watcher


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run is made of.

    Args:
        subset: Whose parameters are trained.
        blocks: What the steps perturb in turn; usually one block, which is everything.
        strategy: Decides what to probe, at a given probe radius.
        epsilon: The probe radius; None finds it before the first step.
        oracle: Evaluates probes on the same subset.
        rule: Moves the parameters.
        learning_rate: The peak rate; None finds it before the first step.
        schedule: The share of it that each step has.
        batches: The batch of a step, a pure function of its index.
        seed: Of the run.
        steps: How many.
        evaluate: The parameters' quality on rows that are not trained on, or None.
        evaluate_every: Steps between evaluations; one at the start and one at the end besides.
        early_stop: Evaluations without a new best after which the run ends; None never does.
        prefix: What the oracle and the evaluation share; None where the lowest trained layer is the first.
        watcher: Judges the run at its evaluations; None lets it go on whatever happens.
        rate_factor: What a rate that is found is multiplied by.
    """

    subset: Subset
    blocks: Blocks
    strategy: Callable[[float], Strategy]
    epsilon: float | None
    oracle: Oracle
    rule: Rule
    learning_rate: float | None
    schedule: Schedule
    batches: Callable[[int], Batch]
    seed: int
    steps: int
    evaluate: Callable[[], Evaluation] | None = None
    evaluate_every: int = 100
    early_stop: int | None = None
    prefix: PrefixStore | None = None
    watcher: Watcher | None = None
    rate_factor: float = 1.0
