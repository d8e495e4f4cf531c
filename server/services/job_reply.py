"""A job as the API shows it."""

import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from server.services.context import Context
from server.store.rows import Event, JobRow
from server.store.states import STATE_REQUESTED
from steerzo_edge.settings.profile import resolve, searches
from steerzo_edge.training.pace import WINDOW, phase_of, seconds_left, steps_of_first_pass

# The steps whose times say how long the rest takes.
SPEED_STEPS = WINDOW + 1


def job_reply(server: Context, job: JobRow) -> dict[str, Any]:
    """A job as the API shows it."""
    steps = server.job_table.events.last(job.id, "step", SPEED_STEPS)
    evaluation = next(iter(server.job_table.events.last(job.id, "eval", 1)), None)
    last = steps[-1].data if steps else None
    total = job.spec["profile"]["steps"]
    done = 0 if last is None else last["step"] + 1
    final = None if job.result is None else job.result["after"]
    metrics = final or (None if evaluation is None else evaluation.data)
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "priority": job.priority,
        "created": job.created,
        "started": job.started,
        "ended": job.ended,
        "attempts": job.attempts,
        "dataset": job.spec["dataset"],
        "validation": job.spec["validation"],
        "step": done,
        "steps": total,
        "loss": None if last is None else last["loss"],
        "forwards": 0 if last is None else last["forwards"],
        "seconds_left": None if job.is_final else _seconds_left(steps, total - done),
        "phase": _phase(server, job, done) if job.state == "running" else None,
        "metrics": {} if metrics is None else _metrics(metrics),
        "before": None if job.result is None else job.result["before"],
        "adapter": _adapter(server, job),
        "requested": job.requested,
        "waiting_for": _waiting_for(server, job),
        "error": job.error,
        "profile": job.spec["profile"],
        "seed": job.spec["seed"],
        "task": job.spec["task"],
        "sweep": (job.spec.get("sweep") or {}).get("id"),
    }


def _adapter(server: Context, job: JobRow) -> dict[str, Any] | None:
    row = server.adapters.table.of_job(job.id)
    return None if row is None else {"sha256": row.sha256, "step": row.facts["step"]}


def _metrics(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation with all its metrics; evaluations of older servers have the accuracy alone."""
    plain = {key: evaluation[key] for key in ("loss", "accuracy", "examples", "step")}
    return plain | (evaluation.get("metrics") or {})


def _seconds_left(steps: list[Event], left: int) -> float | None:
    """From the time between steps, prompts that were answered meanwhile included."""
    between = [there.at - here.at for here, there in pairwise(steps)] or [step.data["seconds"] for step in steps]
    found = seconds_left(between, left)
    return None if found is None else round(found, 1)


def _phase(server: Context, job: JobRow, done: int) -> str:
    profile = job.spec["profile"]
    events = server.job_table.events
    upper = profile["subset"].get("last_layers") or profile["subset"].get("layers") or 0
    judged = job.spec["validation"] is not None or profile["evaluate"]["holdout"] > 0
    dataset = server.dataset_table.find(job.spec["dataset"])
    rows = 0 if dataset is None else dataset.facts["rows"]
    return phase_of(
        done,
        evaluates=judged and not events.last(job.id, "eval", 1),
        searches=done == 0 and searches(resolve(profile)) and not events.last(job.id, "tune", 1),
        first_pass=steps_of_first_pass(rows, profile["batch"]["examples"], upper),
    )


def _waiting_for(server: Context, job: JobRow) -> str | None:
    """What a job waits for, in words; None if it does not wait."""
    if job.requested is not None:
        return f"the end of its present step, to be {STATE_REQUESTED[job.requested]}"
    if job.state == "paused":
        return f"POST /jobs/{job.id}/resume"
    if job.state != "queued":
        return None
    ahead = server.job_table.ahead_of(job)
    if ahead:
        return f"{ahead} job{'s' * (ahead > 1)} ahead"
    left = job.not_before - time.time()
    return f"another attempt in {left:.0f} s" if job.error and left > 0 else "the device"
