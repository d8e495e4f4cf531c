"""Tracks a made-up run with the real clients, in a process that has them, and writes DIRECTORY/said.json.

First 6 records are sent and only 4 of them noted, without a final state, as a kill would leave it. Then the run
goes on with 4 more, and ends.
"""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steerzo_edge.records import EvalRecord, Record, StepRecord
from steerzo_edge.trackers.delivery import Delivery
from steerzo_edge.trackers.mlflow import MlflowConfig
from steerzo_edge.trackers.tensorboard import TensorBoardConfig
from steerzo_edge.trackers.tracker import TrackedRun, Tracker
from steerzo_edge.trackers.tracking import Tracking
from steerzo_edge.trackers.wandb import WandbConfig

CONFIGS = (TensorBoardConfig(), MlflowConfig(experiment="tests"), WandbConfig(mode="offline", project="tests"))
NOTED, SENT = 4, 6


def step(index: int) -> StepRecord:
    return StepRecord(index, 2.0 - index / 10, 0.5, 0.01, 0.05, 4 * (index + 1), 100, 0.25, 0)


def evaluation(index: int, *, best: bool = False) -> EvalRecord:
    return EvalRecord(index, 1.5 - index / 10, 0.5, 8, best, {"f1": 0.25})


# The last noted record is an evaluation after 3 steps: it is of the same step as the next record.
RECORDS: list[Record] = [
    step(0), step(1), step(2), evaluation(3), step(3), step(4), step(5), step(6), step(7), evaluation(8, best=True),
]  # fmt: skip


def track(directory: Path, recorded: int, added: list[Record], *, ends: bool) -> list[str]:
    told: list[str] = []
    tracking = Tracking(
        CONFIGS,
        TrackedRun("a run", directory, {"steps": "8", "method.kind": "two-point"}),
        recorded=lambda first, last: RECORDS[first:last],
        total=recorded,
        report=lambda kind, reason, message: told.append(f"{kind}: {reason}: {message}"),
    )
    for record in added:
        tracking.add(record)
    if ends:
        tracking.close("succeeded", evaluation(8, best=True))
    else:
        tracking.close()
    tracking.join(60)
    return told


def first(directory: Path) -> list[str]:
    note = Delivery._note

    def forgetful(delivery: Delivery, tracker: Tracker, sent: int) -> None:
        note(delivery, tracker, min(sent, NOTED))

    Delivery._note = forgetful  # type: ignore[assignment, method-assign]
    try:
        return track(directory, 0, RECORDS[:SENT], ends=False)
    finally:
        Delivery._note = note  # type: ignore[method-assign]


def read_tensorboard(directory: Path) -> dict[str, Any]:
    """The scalars that TensorBoard shows: those that a later file takes over are dropped from the earlier ones."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    shown: dict[str, list[tuple[int, float]]] = {}
    texts: dict[str, str] = {}
    dropped = 0
    for path in sorted(directory.iterdir(), key=lambda path: path.name.rpartition(".")[2]):
        for data in framed(path.read_bytes()):
            event = Event.FromString(data)
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                for name, points in shown.items():
                    kept = [point for point in points if point[0] < event.step]
                    dropped += len(points) - len(kept)
                    shown[name] = kept
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    shown.setdefault(value.tag, []).append((event.step, value.simple_value))
                elif value.tag.endswith("/text_summary"):
                    texts[value.tag] = value.tensor.string_val[0].decode()
    return {"shown": shown, "texts": texts, "dropped": dropped}


def framed(data: bytes) -> Iterator[bytes]:
    """The records of a file: length, its checksum, bytes, their checksum."""
    place = 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        yield data[place + 12 : place + 12 + length]
        place += 16 + length


def read_mlflow(directory: Path) -> dict[str, Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=directory.as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    history = {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    info = {"name": run.info.run_name, "status": run.info.status}
    return {**info, "parameters": run.data.params, "shown": history}


def read_wandb(directory: Path) -> list[dict[str, Any]]:
    """What `wandb sync` would send of each of the client's directories."""
    from wandb.proto.wandb_internal_pb2 import Record as Stored

    found = []
    for path in sorted(directory.glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        run: dict[str, Any] = {"config": {}, "shown": [], "summary": {}}
        data, place = path.read_bytes(), 7
        while place < len(data):
            (length,) = struct.unpack_from("<H", data, place + 4)
            stored = Stored.FromString(data[place + 7 : place + 7 + length])
            place += 7 + length
            kind = stored.WhichOneof("record_type")
            if kind == "run":
                run["id"] = stored.run.run_id
                run["config"] |= values(stored.run.config.update)
            elif kind == "history":
                run["shown"].append(values(stored.history.item))
            elif kind == "summary":
                run["summary"] |= values(stored.summary.update)
            elif kind == "exit":
                run["exit"] = stored.exit.exit_code
        found.append(run)
    return found


def values(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


if __name__ == "__main__":
    place = Path(sys.argv[1])
    reports = first(place) + track(place, SENT, RECORDS[SENT:], ends=True)
    said = {
        "reports": reports,
        "tensorboard": read_tensorboard(place / "tensorboard"),
        "mlflow": read_mlflow(place / "mlflow"),
        "wandb": read_wandb(place / "wandb"),
    }
    (place / "said.json").write_text(json.dumps(said))
