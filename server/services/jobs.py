"""A job at the door: everything that can be checked is checked before it may wait in the queue."""

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from server.ids import new_id
from server.schemas import BenchmarkRows, JobBody, Rows
from server.services.context import Context
from server.services.datasets import keep_benchmark, keep_rows
from server.services.inspection import Inspection, inspect, spec_of
from server.store.jobs import same_request
from server.store.rows import JobRow
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.task import Task
from steerzo_edge.errors import BusyError, ConflictError, InputError
from steerzo_edge.settings.profile import Profile, load_profile, resolve


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
    check_base(server, body)
    if server.store.count("queued") >= server.settings.max_waiting_jobs:
        raise BusyError(f"{server.settings.max_waiting_jobs} jobs are waiting already")
    profile = profile_of(server, body)
    ids = [_dataset_id(server, rows) for rows in (body.dataset, body.validation)]
    spec = spec_of(body, profile, *ids)
    found = inspected(server, body, profile, spec, lambda: _read(server, ids, body.task))
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
    if found.warning is not None:
        server.store.add_log(job.id, found.warning)
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


def check_base(server: Context, body: JobBody) -> None:
    """Whether a job is meant for the base that this server holds.

    Raises:
        ConflictError: If not.
        NotReadyError: If that is still loading.
    """
    base = server.device.base
    if body.model not in (None, base.name):
        raise ConflictError(
            f"this server holds {base.name!r}, the job asks for {body.model!r}",
            hint=f"Start a server with --base {body.model}, or leave model out.",
        )


def inspected(
    server: Context,
    body: JobBody,
    profile: Profile,
    spec: Mapping[str, Any],
    read: Callable[[], Sequence[Dataset | None]],
) -> Inspection:
    """What there is to say of a job's rows, found now or before.

    Args:
        server: The server's parts.
        body: What is asked for.
        profile: Its settings.
        spec: From `spec_of`.
        read: Reads the rows to learn from, and those to be judged by.

    Raises:
        InputError: If rows or settings cannot be used.
    """
    base, tokenizer = server.device.base, server.tokenizer
    return server.checks.once(json.dumps(spec), lambda: inspect(base, tokenizer, body, profile, read()))


def _dataset_id(server: Context, rows: Rows | None) -> str | None:
    if isinstance(rows, list):
        return keep_rows(server, rows, None).id
    return keep_benchmark(server, rows).id if isinstance(rows, BenchmarkRows) else rows


def _read(server: Context, ids: list[str | None], task: Task | None) -> list[Dataset | None]:
    return [None if id is None else server.library.read(server.register.dataset(id), task) for id in ids]
