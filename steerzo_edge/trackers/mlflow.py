"""MLflow: its tracking server, or a directory, by `MlflowClient` of mlflow-skinny.

A resumed run goes on in the same MLflow run. Points that an earlier process sent in its last moments are looked up
there and not sent again.
"""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from steerzo_edge.trackers.tracker import EndState, Point, TrackedRun, TrackerBase

# Bounds of MLflow's REST API.
MOST_METRICS, MOST_PARAMETERS, LONGEST_PARAMETER = 1000, 100, 6000
_STATUS: dict[EndState, str] = {
    "succeeded": "FINISHED",
    "failed": "FAILED",
    "cancelled": "KILLED",
    "paused": "SCHEDULED",
}


class MlflowConfig(TrackerBase):
    """A run in MLflow."""

    kind: Literal["mlflow"] = "mlflow"
    uri: str | None = Field(
        None,
        min_length=1,
        description="Address of a tracking server, or a directory; by default MLFLOW_TRACKING_URI, and without it "
        "`mlflow` in the run's directory.",
    )
    experiment: str = Field("steerzo-edge", min_length=1, max_length=200, description="Made if it is missing.")

    module: ClassVar[str] = "mlflow"
    extra: ClassVar[str] = "mlflow"
    places: ClassVar[frozenset[str]] = frozenset({"uri"})

    def open(self, run: TrackedRun) -> "Mlflow":
        """A new run of the experiment, or the one that an earlier process began."""
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:
            uri = (run.directory / "mlflow").resolve().as_uri()
        return Mlflow(uri, self.experiment, run)


class Mlflow:
    """An open run.

    Args:
        uri: Of the store.
        experiment: Its name.
        run: What is tracked.
    """

    def __init__(self, uri: str, experiment: str, run: TrackedRun) -> None:
        if "://" not in uri or uri.startswith("file:"):
            # MLflow 3 asks who names a directory whether it is meant: it prefers a database.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._metric: Any = Metric
        self._client: Any = MlflowClient(tracking_uri=uri)
        self._sent: dict[str, set[int]] = {}
        self._resends = run.first_step is not None and run.known_as is not None
        if run.known_as is not None:
            self.known_as = run.known_as
            self._client.update_run(self.known_as, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(experiment)
        id = self._client.create_experiment(experiment) if found is None else found.experiment_id
        self.known_as = self._client.create_run(id, run_name=run.name).info.run_id
        values = [Param(name, value[:LONGEST_PARAMETER]) for name, value in run.parameters.items()]
        for first in range(0, len(values), MOST_PARAMETERS):
            self._client.log_batch(self.known_as, params=values[first : first + MOST_PARAMETERS])

    def log(self, points: Sequence[Point]) -> None:
        """Sends points that the store does not have."""
        self._send(
            [
                (name, number, point.step)
                for point in points
                for name, number in point.numbers.items()
                if point.step not in self._steps_of(name)
            ]
        )
        # Only the first points after a restart may be there already.
        self._resends = False

    def end(self, state: EndState, summary: Mapping[str, float]) -> None:
        """Sets the run's status, and sends the final evaluation as `final/...`."""
        self._send([(f"final/{name.partition('/')[2]}", number, 0) for name, number in summary.items()])
        self._client.set_terminated(self.known_as, status=_STATUS[state])

    def close(self) -> None:
        """Nothing is held."""

    def _send(self, numbers: Sequence[tuple[str, float, int]]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._metric(name, number, now, step) for name, number, step in numbers]
        for first in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self.known_as, metrics=metrics[first : first + MOST_METRICS])

    def _steps_of(self, name: str) -> set[int]:
        """The steps of which the store has a metric; empty when none can be there."""
        if not self._resends:
            return set()
        if name not in self._sent:
            history = self._client.get_metric_history(self.known_as, name)
            self._sent[name] = {metric.step for metric in history}
        return self._sent[name]
