"""The built parts of a run. They know no profile, no file layout and no server."""

from collections.abc import Callable
from dataclasses import dataclass

from steerzo_edge.data.batches import Batch
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.subset import Subset
from steerzo_edge.objectives.evaluation import Evaluation
from steerzo_edge.training.exact_steps import ExactSteps
from steerzo_edge.training.linearized import Linearized
from steerzo_edge.zo.blocks import Blocks
from steerzo_edge.zo.oracle import Oracle
from steerzo_edge.zo.rule import Rule
from steerzo_edge.zo.schedule import Schedule
from steerzo_edge.zo.strategy import Strategy
from steerzo_edge.zo.watcher import Watcher


@dataclass(frozen=True, slots=True)
class Below:
    """What a hybrid run has for the trained layers below those with exact gradients.

    Args:
        loss: What the oracle measures in them.
        rule: Moves their parameters; it has no state.
        exact_rate: The peak rate of the layers above; `Parts.learning_rate` is that of those below.
    """

    loss: Linearized
    rule: Rule
    exact_rate: float


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that the loop needs.

    Args:
        subset: Holds the trained parameters.
        blocks: The parts of the parameters that steps perturb in turn; usually one block that holds all of them; in
            a hybrid run one that holds those of the layers below.
        strategy: Builds the strategy for a probe radius.
        epsilon: The probe radius; None finds it before the first step.
        oracle: Evaluates probes on the same subset.
        rule: Moves the parameters; in a hybrid run those of the layers with exact gradients.
        learning_rate: The peak rate; None finds it before the first step.
        schedule: The share of the peak rate at each step.
        batches: The batch of a step, a pure function of its index.
        seed: Of the run.
        steps: How many.
        evaluate: Measures the parameters on rows that are not trained on; None if there are none.
        evaluate_every: Steps between evaluations; in addition, there is one at the start and one at the end.
        early_stop: Evaluations without a new best after which the run ends; None never does.
        prefix: Hidden states that enter the lowest trained layer, shared by oracle and evaluation; None where that
            is the first layer.
        watcher: Judges the run at its evaluations; None never intervenes.
        rate_factor: Factor for a rate that is found ("0.5 * auto").
        exact: Computes exact gradients and moves parameters along them; None: all gradients are estimated from the
            losses of probes.
        below: With exact gradients for the topmost layers only: what estimates those of the blocks. None: there are
            either no exact gradients or no probes.
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
    exact: ExactSteps | None = None
    below: Below | None = None

    @property
    def probe_rule(self) -> Rule:
        """Moves the parameters of the blocks."""
        return self.rule if self.below is None else self.below.rule
