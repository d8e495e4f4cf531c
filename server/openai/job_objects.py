"""Jobs, their events and their checkpoints as OpenAI's objects."""

import time
from collections.abc import Mapping
from typing import Any, Final, Literal

from server.openai.models import model_name
from server.openai.schemas import (
    CheckpointMetrics,
    CheckpointObject,
    EventObject,
    Hyperparameters,
    JobError,
    JobObject,
    Level,
    MethodObject,
    Supervised,
)
from server.services.context import Context
from server.services.job_reply import job_reply
from server.store.rows import Event, JobRow
from server.store.states import State

Status = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
STATUS: Final[Mapping[State, Status]] = {
    "queued": "queued",
    "running": "running",
    "paused": "paused",
    "interrupted": "queued",  # goes back into the queue next
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
MESSAGES: Final[Mapping[str, str]] = {
    "queued": "The job is waiting in the queue",
    "running": "The job is running",
    "paused": "The job is paused",
    "interrupted": "The job was interrupted and will continue from its last step",
    "succeeded": "The job has succeeded",
    "failed": "The job has failed",
    "cancelled": "The job was cancelled; its adapter is kept",
}


def job_object(server: Context, job: JobRow) -> JobObject:
    """A job as OpenAI's object."""
    extras = job.spec.get("openai") or {}
    asked = Hyperparameters(**extras.get("hyperparameters", {}))
    error = job.error if job.state == "failed" else None
    return JobObject(
        id=job.id,
        created_at=int(job.created),
        finished_at=None if job.ended is None or not job.is_final else int(job.ended),
        estimated_finish=_estimated_finish(server, job),
        model=job.spec["profile"]["model"]["id"],
        fine_tuned_model=None if job.result is None else model_name(job),
        status=STATUS[job.state],
        training_file=job.spec["dataset"],
        validation_file=job.spec["validation"],
        seed=job.spec["seed"],
        hyperparameters=asked,
        method=MethodObject(supervised=Supervised(hyperparameters=asked)),
        trained_tokens=_tokens(server, job) if job.is_final else None,
        metadata=extras.get("metadata"),
        error=None if error is None else JobError(code=error["code"], message=f"{error['detail']} {error['hint']}"),
    )


def event_object(event: Event) -> EventObject:
    """An event as OpenAI's object: steps and evaluations are metrics, all others messages."""
    level, message = _level_and_message(event)
    return EventObject(
        id=f"ftevent-{event.seq}",
        created_at=int(event.at),
        level=level,
        type="metrics" if event.kind in ("step", "eval") else "message",
        message=message,
        data=_data(event),
    )


def checkpoint_objects(server: Context, job: JobRow) -> list[CheckpointObject]:
    """A job's checkpoints: its adapter (the best version or the last) once it is stored."""
    if job.result is None:
        return []
    step = int(job.result["step"])
    after = job.result["after"]
    trained = server.job_table.events.of_step(job.id, step - 1)
    return [
        CheckpointObject(
            id=f"ftckpt-{job.id}-{step}",
            created_at=int(job.created if job.ended is None else job.ended),
            fine_tuning_job_id=job.id,
            fine_tuned_model_checkpoint=model_name(job),
            step_number=step,
            metrics=CheckpointMetrics(
                step=step,
                train_loss=None if trained is None else trained.data["loss"],
                full_valid_loss=None if after is None else after["loss"],
            ),
        )
    ]


def _estimated_finish(server: Context, job: JobRow) -> int | None:
    left = job_reply(server, job)["seconds_left"] if job.state == "running" else None
    return None if left is None else int(time.time() + left)


def _tokens(server: Context, job: JobRow) -> int | None:
    steps = server.job_table.events.last(job.id, "step", 1)
    return steps[0].data["tokens"] if steps else None


def _level_and_message(event: Event) -> tuple[Level, str]:
    data = event.data
    match event.kind:
        case "step":
            return "info", f"Step {event.step}: training loss {_number(data['loss'])}"
        case "eval":
            return "info", f"After {event.step} steps: validation loss {_number(data['loss'])}"
        case "state":
            problem = data.get("error")
            message = MESSAGES[data["state"]]
            return ("error", f"{message}: {problem['detail']}") if problem else ("info", f"{message}.")
        case "watch":
            return "warn", str(data["message"])
    return "info", str(data.get("message", event.kind))


def _data(event: Event) -> dict[str, Any]:
    """The event's data, with the loss also under the name that scripts for OpenAI's API read."""
    name = {"step": "train_loss", "eval": "full_valid_loss"}.get(event.kind)
    return event.data if name is None else {**event.data, name: event.data["loss"]}


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
