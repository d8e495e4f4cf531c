"""The eleven tasks that zeroth-order papers report results on, by name, read from the fields of their releases.

sst2 rte cb boolq wsc wic multirc    the same options for every row
copa record                          options that differ from row to row
squad drop                           answers that are generated
"""

from steerzo_edge.data.tasks.benchmark import BenchmarkTask as BenchmarkTask
from steerzo_edge.data.tasks.classification import BOOLQ, CB, MULTIRC, RTE, SST2, WIC, WSC
from steerzo_edge.data.tasks.generation import DROP, SQUAD
from steerzo_edge.data.tasks.multiple_choice import COPA, RECORD
from steerzo_edge.errors import TaskError

TASKS: dict[str, BenchmarkTask] = {
    task.name: task for task in (SST2, RTE, CB, BOOLQ, WSC, WIC, MULTIRC, COPA, RECORD, SQUAD, DROP)
}


def benchmark_task(name: str) -> BenchmarkTask:
    """A task by name.

    Raises:
        TaskError: If no task has this name; the hint lists them.
    """
    if name not in TASKS:
        raise TaskError(f"there is no benchmark task {name!r}", hint=f"There are: {', '.join(TASKS)}.")
    return TASKS[name]
