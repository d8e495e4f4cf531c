"""Sweeps: jobs that differ in their settings, with a common label in their specs.

A sweep is nothing but its jobs: they are queued, run, resumed after a restart, and deleted as all others are.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from server.ids import new_id
from server.services.context import Context
from server.services.estimates import estimated, keys_of_rows
from server.services.jobs import accepted_spec, check_base, check_room, profile_of, stored_rows
from server.services.sweep_body import SweepBody
from server.store.new_jobs import NewJob, same_request
from server.store.rows import JobRow
from server.webhook_addresses import check_webhook
from steerzo_edge.errors import ConflictError, NotFoundError
from steerzo_edge.settings.profile import Profile
from steerzo_edge.sweep.outcomes import Outcome, table_of
from steerzo_edge.sweep.trials import Trial, trials_of


def start_sweep(server: Context, body: SweepBody, idempotency_key: str | None = None) -> str:
    """Checks all jobs of a sweep, then puts them into the queue.

    Args:
        server: The server's parts.
        body: The request.
        idempotency_key: If a sweep was started with the same key, that one is returned.

    Returns:
        The sweep's id.

    Raises:
        InputError: If settings or rows cannot be used, or the webhook's address is not allowed; no job is queued.
        NotFoundError: If there is no such dataset or profile.
        ConflictError: If a name is taken, or the key was used for a different request.
        BusyError: If there is no room for all jobs in the queue.
    """
    request = sha256(json.dumps(body.model_dump(mode="json")).encode()).hexdigest()
    made = None if idempotency_key is None else server.job_table.of_key(idempotency_key)
    if made is not None:
        return str(same_request(made, {"request": request}).spec["sweep"]["id"])
    check_base(server, body)
    check_webhook(body.webhook, server.settings.webhook_prefixes)
    trials = _trials(server, body)
    check_room(server, len(trials))
    id = new_id("sweep")
    name = body.name or id.replace("_", "-")[:12]
    rows = stored_rows(server, body)
    jobs, warnings = [], dict[str, Sequence[str]]()
    for trial in trials:
        spec, found = accepted_spec(server, body, trial.profile, rows)
        label = {"id": id, "name": name, "number": trial.number, "changes": trial.changes}
        spec |= {"request": request, "sweep": label, "most_seconds": trial.most_seconds}
        key = idempotency_key if trial.number == 1 else None
        jobs.append(NewJob(new_id("job"), f"{name}-{trial.number}", spec, key, body.priority))
        warnings[jobs[-1].id] = found
    with server.dataset_table.holding(*rows):
        added = server.job_table.add_all(jobs, max_waiting=server.settings.max_waiting_jobs)
    if added[0].id != jobs[0].id:  # the same request came a second time meanwhile
        return str(added[0].spec["sweep"]["id"])
    for job, sentences in warnings.items():
        for sentence in sentences:
            server.job_table.events.add_log(job, sentence)
    server.device.wake()
    return id


def planned_sweep(server: Context, body: SweepBody) -> dict[str, Any]:
    """What the jobs of a sweep are expected to need; nothing is stored.

    Raises:
        InputError: As `start_sweep`.
        NotReadyError: If the base is still loading.
    """
    runs, keys = [], keys_of_rows(server, body)
    for trial in _trials(server, body):
        job = body.job().model_copy(update={"profile": trial.profile.model_dump(mode="json"), "overrides": {}})
        found = estimated(server, job, keys)
        seconds = found["seconds"] if trial.most_seconds is None else min(found["seconds"], trial.most_seconds)
        needs = {"seconds": seconds, "bytes": found["memory"]["total"], "fits": found["fits"]}
        runs.append({"settings": trial.changes, **needs})
    total = round(sum(run["seconds"] for run in runs), 1)
    return {"count": len(runs), "seconds": total, "bytes": max(run["bytes"] for run in runs), "runs": runs}


def sweep_reply(server: Context, id: str) -> dict[str, Any]:
    """A sweep as the API shows it: its table, and how far it is.

    Raises:
        NotFoundError: If there is none, or all its jobs were deleted.
    """
    jobs = _jobs(server, id)
    done = sum(job.is_final for job in jobs)
    first = jobs[0]
    table = table_of([_outcome(server, job) for job in jobs])
    label = {"id": id, "name": first.spec["sweep"]["name"], "created": first.created, "count": len(jobs)}
    return {**label, "ended": done, "state": "ended" if done == len(jobs) else "running", **table}


def sweep_ids(server: Context, limit: int) -> list[str]:
    """The ids of the newest sweeps, newest first."""
    return server.job_table.sweeps(limit)


def cancel_sweep(server: Context, id: str) -> None:
    """Cancels the jobs of a sweep that have not ended; the adapter of a running one is kept.

    Raises:
        NotFoundError: As `sweep_reply`.
        ConflictError: If all have ended.
    """
    jobs = [job for job in _jobs(server, id) if not job.is_final]
    if not jobs:
        raise ConflictError(f"all jobs of sweep {id} have ended", hint=f"GET /sweeps/{id} shows what came out.")
    for job in reversed(jobs):  # the running one last, so that no other starts in its place
        server.runner.cancel(job)


def _trials(server: Context, body: SweepBody) -> list[Trial]:
    def resolved(changes: Mapping[str, Any]) -> Profile:
        job = body.job()
        return profile_of(server, job.model_copy(update={"overrides": {**job.overrides, **changes}}))

    return trials_of(resolved, body.settings, most_steps=body.most_steps, most_seconds=body.most_seconds)


def _jobs(server: Context, id: str) -> list[JobRow]:
    jobs = server.job_table.of_sweep(id)
    if not jobs:
        raise NotFoundError(f"there is no sweep {id!r}", hint="GET /sweeps lists them.")
    return jobs


def _outcome(server: Context, job: JobRow) -> Outcome:
    events = server.job_table.events
    last = next(iter(events.last(job.id, "step", 1)), None)
    evaluation = next(iter(events.last(job.id, "eval", 1)), None)
    result = job.result or {}
    # The result of a job that goes on, or that failed later, is one of an earlier part.
    seconds = result.get("seconds") if job.is_final and job.state != "failed" else None
    row = server.adapters.table.of_job(job.id)
    outcome = Outcome(
        job.id,
        job.spec["sweep"]["changes"],
        job.state,
        0 if last is None else last.data["step"] + 1,
        job.spec["profile"]["steps"],
        evaluation=result.get("after") or (None if evaluation is None else evaluation.data),
        seconds=events.seconds(job.id) if seconds is None else seconds,
        peak_bytes=result.get("peak_bytes"),
        adapter=None if row is None else row.name,
        error=None if job.error is None else job.error["detail"],
    )
    return outcome if last is None else replace(outcome, loss=last.data["loss"], forwards=last.data["forwards"])
