"""Estimates the memory and time of a job, without storing or queueing anything.

The device is not used: the base's sizes and speed were measured when it was loaded. The speed is corrected by the
measured steps of the last job on this base.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import PurePath
from statistics import median
from typing import Any

from server.errors import NotReadyError
from server.services.context import Context
from server.services.datasets import benchmark_file
from server.services.inspection import Inspection, spec_of
from server.services.jobs import check_base, inspected, profile_of
from server.services.request_bodies import BenchmarkRows, JobBody, Rows
from server.store.rows import JobRow
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.reading import read_dataset, read_rows
from steerzo_edge.data.task import Task
from steerzo_edge.estimate import (
    MemoryEstimate,
    MemoryNeeds,
    Survey,
    Work,
    advice,
    chosen,
    estimate,
    free_bytes,
    run_effort,
    step_effort,
    trained_by,
    ways_of,
)
from steerzo_edge.settings.profile import Profile, resolve

STEPS = 20  # last steps of an earlier job that are compared with the estimate
FEWEST_STEPS = 5  # a job with fewer steps is not used
JOBS = 20  # newest jobs that are searched for one on this base


def estimated(server: Context, body: JobBody, keys: Sequence[str | None] | None = None) -> dict[str, Any]:
    """The estimate of a job, JSON-ready.

    Args:
        server: The server's parts.
        body: The job, as it would be submitted.
        keys: The result of `keys_of_rows`, where several jobs have the same rows.

    Raises:
        InputError: As `jobs.accept`.
        NotFoundError: As `jobs.accept`.
        ConflictError: If another base is loaded.
        NotReadyError: If the base is still loading, or its sizes could not be determined.
    """
    check_base(server, body)
    if server.survey is None:
        raise NotReadyError(f"the sizes of base {server.device.base.name!r} are not known", hint="See the log.")
    profile = profile_of(server, body)
    train, validation = keys_of_rows(server, body) if keys is None else keys
    spec = spec_of(body, profile, train, validation)
    both = (body.dataset, body.validation)
    found = inspected(server, body, profile, spec, lambda: [_read(server, rows, body.task) for rows in both])
    device = server.device.base.device
    choice = chosen(profile, server.survey.body, found.work, device=device.type)
    profile = profile if choice is None else choice.profile
    needed = estimate(profile, server.survey.body, found.work, device=device.type)
    free = free_bytes(device, needed.weights)
    effort = run_effort(profile, server.survey.body, trained_by(profile, server.survey.body), found.work)
    factor, job = _correction(server, server.survey, profile)
    return {
        "base": server.device.base.name,
        "device": device.type,
        "rows": {"train": found.rows[0], "validation": found.rows[1], "truncated": found.truncated},
        "memory": _memory(needed),
        "free": free,
        "fits": needed.zeroth_order.total <= free,
        "steps": profile.steps,
        "forwards": effort.forwards,
        "evaluations": effort.evaluations,
        "tokens": round(effort.tokens),
        "seconds": round(effort.seconds(server.survey.speed) * factor, 1),
        "speed": {"source": "layer" if job is None else "job", "job": job, "correction": round(factor, 3)}
        | {f"{name}_s": value for name, value in asdict(server.survey.speed).items()},
        "ways": [
            asdict(way)
            for way in ways_of(
                profile, server.survey.body, found.work, server.survey.speed, device=device.type, free=free
            )
        ],
        "warnings": _warnings(profile, found, needed, free),
        "method": profile.method.kind,
        "advice": choice.sentence
        if choice is not None
        else advice(
            needed,
            free,
            differentiable=profile.objective.differentiable,
            exact=profile.method.needs_gradients,
        ),
    }


def keys_of_rows(server: Context, body: JobBody) -> list[str | None]:
    """Stand-ins for a job's training and validation rows.

    Raises:
        NotFoundError: If there is no such dataset.
    """
    return [_key(server, rows) for rows in (body.dataset, body.validation)]


def _key(server: Context, rows: Rows | None) -> str | None:
    """A stand-in for rows in a job's spec: the id of their dataset, which must exist, or a hash of the rows."""
    if isinstance(rows, str):
        return server.dataset_table.get(rows).id
    if isinstance(rows, BenchmarkRows):
        return f"{rows.task} sha256:{sha256(benchmark_file(server, rows)[0]).hexdigest()}"
    return None if rows is None else f"sha256:{sha256(json.dumps(rows).encode()).hexdigest()}"


def _read(server: Context, rows: Rows | None, task: Task | None) -> Dataset | None:
    if rows is None:
        return None
    if isinstance(rows, list):
        return read_rows(rows, task=task)
    if isinstance(rows, BenchmarkRows):
        data, file, _ = benchmark_file(server, rows)
        return read_dataset(data, name=PurePath(file).name, task=task, benchmark=rows.task)
    return server.directory.read(server.dataset_table.get(rows), task)


def _memory(needed: MemoryEstimate) -> dict[str, Any]:
    others = ("lean", "exact", "checkpointed")
    return _parts(needed.zeroth_order) | {name: _parts(getattr(needed, name)) for name in others}


def _parts(needs: MemoryNeeds) -> dict[str, Any]:
    return {"total": needs.total, "parts": dict(needs)}


def _warnings(profile: Profile, found: Inspection, needed: MemoryEstimate, free: int) -> list[str]:
    warnings = list(found.warnings)
    if found.truncated:
        warnings.append(
            f"{found.truncated:,} of {sum(found.rows):,} rows are longer than {profile.batch.max_tokens:,} tokens "
            "(or than the context) and are cut on the left of their prompts"
        )
    if needed.zeroth_order.total > free:
        warnings.append(f"the run needs {needed.zeroth_order.total:,} bytes and {free:,} are free")
    return warnings


def _correction(server: Context, survey: Survey, profile: Profile) -> tuple[float, str | None]:
    """How many times longer than estimated the last job's steps on this base took, and the job's id."""
    model = profile.model.model_dump(mode="json")
    for job in server.job_table.page(before=None, limit=JOBS, state=None):
        if job.spec["profile"]["model"] == model:
            factor = _ratio(server, survey, job)
            if factor is not None:
                return factor, job.id
    return 1.0, None


def _ratio(server: Context, survey: Survey, job: JobRow) -> float | None:
    records = [event.data for event in server.job_table.events.last(job.id, "step", STEPS)]
    if len(records) < FEWEST_STEPS:
        return None
    profile = resolve(job.spec["profile"])
    work = _work(profile, records)
    choice = chosen(profile, survey.body, work, device=server.device.base.device.type)
    profile = profile if choice is None else choice.profile
    estimated_s = step_effort(profile, survey.body, trained_by(profile, survey.body), work).seconds(survey.speed)
    return median(record["seconds"] for record in records) / estimated_s if estimated_s else None


def _work(profile: Profile, records: Sequence[dict[str, Any]]) -> Work:
    """The work of an earlier job, from the tokens that its steps put through the model."""
    first, last = records[0], records[-1]
    batch = (last["tokens"] - first["tokens"]) / max(1, last["forwards"] - first["forwards"])
    mean = batch / profile.batch.examples
    return Work(profile.batch.examples, max(1, round(mean)), round(batch), 0, 0, mean)
