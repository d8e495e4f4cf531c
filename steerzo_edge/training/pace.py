"""How long a run still takes, judged by its last steps, and what it is doing now.

The median of the last steps is used: the first steps of a run compute the hidden states of rows that were not seen
before, and an evaluation between two steps is no part of either.
"""

import math
from collections.abc import Sequence
from statistics import median

WINDOW = 20
EVALUATING = "evaluating the base"
SEARCHING = "finding the probe radius and the learning rate"
FIRST_PASS = "first pass over the data"
STEPS = "steps"


def seconds_left(recent: Sequence[float], left: int) -> float | None:
    """Seconds that the remaining steps take at the recent rate; None before the first step.

    Args:
        recent: Seconds of the last steps, oldest first; the last `WINDOW` of them count.
        left: Steps that remain.
    """
    return median(recent[-WINDOW:]) * left if recent else None


def phase_of(done: int, *, evaluates: bool, searches: bool, first_pass: int) -> str:
    """What a run is doing.

    Args:
        done: Finished steps.
        evaluates: Whether the evaluation of the untouched base is still to come.
        searches: Whether the search for the probe radius or the learning rate is still to come.
        first_pass: Steps until every row has been seen once, or 0 if the first steps are no slower than others.
    """
    if done == 0 and evaluates:
        return EVALUATING
    if done == 0 and searches:
        return SEARCHING
    return FIRST_PASS if done < first_pass else STEPS


def steps_of_first_pass(rows: int, examples: int, first_layer: int) -> int:
    """Steps until every row has been seen once, where the layers below `first_layer` run once for each row.

    Args:
        rows: Of the training data.
        examples: Rows a step.
        first_layer: The lowest trained layer.
    """
    return math.ceil(rows / examples) if first_layer > 0 else 0
