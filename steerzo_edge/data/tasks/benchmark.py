"""What a benchmark task is: how a row of its release becomes examples, and the metric they are scored by."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from steerzo_edge.data.examples import Example, Metric
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.task import Task


@dataclass(frozen=True, slots=True)
class BenchmarkTask:
    """One task.

    Args:
        name: As users write it.
        format: Name of the kind of its examples.
        metric: Their main metric.
        read: A row of the release to its examples; faults go to the fields.
        template: Prompt and option words, for labelled rows.
        max_new_tokens: Length limit of a generated answer, for tasks without options.
    """

    name: str
    format: str
    metric: Metric
    read: Callable[[Fields], Iterable[Example]]
    template: Task | None = None
    max_new_tokens: int | None = None
