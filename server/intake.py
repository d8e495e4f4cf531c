"""A job at the door: everything that can be checked is checked before it may wait in the queue."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from server.context import Context
from server.data.keeping import keep_benchmark, keep_rows
from server.ids import new_id
from server.jobs.rows import JobRow
from server.jobs.store import same_request
from server.schemas import BenchmarkRows, JobBody, Rows
from steerzo_edge.assemble import split, tokenized
from steerzo_edge.data.statistics import warning_of
from steerzo_edge.errors import BusyError, ConflictError, InputError
from steerzo_edge.profile import Profile, load_profile, resolve


def accept(
    server: Context,
    body: JobBody,
    idempotency_key: str | None = None,
    *,
    openai: Mapping[str, Any] | None = None,
) -> JobRow:
    """Puts a job into the queue.

    Args:
        server: The server's parts.
        body: What is asked for.
        idempotency_key: A second job with the same key is not made; the first is returned.
        openai: What the routes under /v1 want to find in the job's spec.

    Raises:
        InputError: If settings or rows cannot be used.
        NotFoundError: If there is no such dataset or profile.
        ConflictError: If another base is loaded, the name is taken, or the key came with another request.
        BusyError: If too many jobs wait already.
    """
    # In ASCII: half of a surrogate pair, which is refused further down, has no UTF-8.
    request = sha256(json.dumps([body.model_dump(mode="json"), openai]).encode()).hexdigest()
    if idempotency_key is not None:
        made = server.store.job_of_key(idempotency_key)
        if made is not None:
            return same_request(made, {"request": request})
    base = server.device.base
    if body.model not in (None, base.name):
        raise ConflictError(
            f"this server holds {base.name!r}, the job asks for {body.model!r}",
            hint=f"Start a server with --base {body.model}, or leave model out.",
        )
    if server.store.count("queued") >= server.settings.max_waiting_jobs:
        raise BusyError(f"{server.settings.max_waiting_jobs} jobs are waiting already")
    profile = profile_of(server, body)
    ids = [_dataset_id(server, rows) for rows in (body.dataset, body.validation)]
    spec: dict[str, Any] = {
        "dataset": ids[0],
        "validation": ids[1],
        "profile": profile.model_dump(mode="json"),
        "task": None if body.task is None else body.task.model_dump(mode="json"),
        "seed": body.seed,
    }
    warning = server.checks.once(json.dumps(spec), lambda: _check(server, body, profile, ids))
    spec |= {"request": request} | ({} if openai is None else {"openai": dict(openai)})
    with server.register.holding(*ids):
        job = server.store.add_job(
            new_id("job"),
            body.name,
            spec,
            idempotency_key,
            priority=body.priority,
            max_waiting=server.settings.max_waiting_jobs,
        )
    if warning is not None:
        server.store.add_log(job.id, warning)
    server.device.wake()
    return job


def profile_of(server: Context, body: JobBody) -> Profile:
    """The resolved profile of a job, on the base that this server holds.

    Raises:
        InputError: If it cannot be used.
        NotFoundError: If there is none of its name.
    """
    if isinstance(body.profile, str):
        if body.profile.endswith((".yaml", ".yml")):
            raise InputError("profile: a request names a profile, it cannot name a file")
        profile = load_profile(body.profile, body.overrides)
    else:
        profile = resolve(body.profile, body.overrides)
    return profile.model_copy(update={"model": server.settings.model})


def _dataset_id(server: Context, rows: Rows | None) -> str | None:
    if isinstance(rows, list):
        return keep_rows(server, rows, None).id
    return keep_benchmark(server, rows).id if isinstance(rows, BenchmarkRows) else rows


def _check(server: Context, body: JobBody, profile: Profile, ids: list[str | None]) -> str | None:
    """Reads and tokenizes the rows as the run will, so that their errors come now; what else there is to say."""
    train, validation = (
        None if id is None else server.library.read(server.register.dataset(id), body.task) for id in ids
    )
    if train is None:
        raise InputError("dataset is missing")
    if body.task is not None and train.format != "classification":
        raise InputError(f"a task needs text/label rows; the dataset is {train.format}")
    if validation is None:
        train, validation = split(train, profile, body.seed)
    base = server.device.base
    profile.subset.chosen(base)
    tokenized(server.tokenizer, base.context_length, profile, train, validation, body.seed)
    return warning_of(train, validation)
