"""Checks a requested job completely, then puts it into the queue."""

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from server.ids import new_id
from server.services.context import Context
from server.services.datasets import keep_benchmark, keep_rows
from server.services.inspection import Inspection, check_layers, inspect, inspection_key, spec_of
from server.services.request_bodies import BenchmarkRows, JobBody, Rows
from server.services.tracker_checks import check_trackers
from server.store.new_jobs import same_request
from server.store.rows import JobRow
from server.webhook_addresses import check_webhook
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
        body: The request.
        idempotency_key: If a job was made with the same key, that job is returned and none is added.
        openai: Stored in the job's spec for the routes under /v1.

    Raises:
        InputError: If settings or rows cannot be used, or the webhook's address is not allowed.
        NotFoundError: If there is no such dataset or profile.
        ConflictError: If another base is loaded, the name is taken, or the key was used for a different request.
        BusyError: If too many jobs wait already.
    """
    # json.dumps gives ASCII: half a surrogate pair, which is refused further down, cannot be encoded in UTF-8.
    # A body without a webhook has the hash that it had before there were webhooks.
    unset = {"webhook"} if body.webhook is None else None
    request = sha256(json.dumps([body.model_dump(mode="json", exclude=unset), openai]).encode()).hexdigest()
    if idempotency_key is not None:
        made = server.job_table.of_key(idempotency_key)
        if made is not None:
            return same_request(made, {"request": request})
    check_base(server, body)
    check_webhook(body.webhook, server.settings.webhook_prefixes)
    check_room(server, 1)
    profile = profile_of(server, body)  # first: rows of a refused job are not stored
    ids = stored_rows(server, body)
    spec, warnings = accepted_spec(server, body, profile, ids)
    spec |= {"request": request} | ({} if openai is None else {"openai": dict(openai)})
    with server.dataset_table.holding(*ids):
        job = server.job_table.add(
            new_id("job"),
            body.name,
            spec,
            idempotency_key,
            priority=body.priority,
            max_waiting=server.settings.max_waiting_jobs,
        )
    for warning in warnings:
        server.job_table.events.add_log(job.id, warning)
    server.device.wake()
    return job


def check_room(server: Context, jobs: int) -> None:
    """Refuses jobs that the queue has no room for, before their rows are read; the queue itself checks it again.

    Raises:
        BusyError: If more would wait than may.
    """
    waiting, most = server.job_table.count("queued"), server.settings.max_waiting_jobs
    if waiting + jobs > most:
        raise BusyError(f"{waiting} jobs are waiting already, at most {most} may wait")


def stored_rows(server: Context, body: JobBody) -> list[str | None]:
    """The ids of a job's training and validation rows, which are stored as datasets if they came in the body.

    Raises:
        InputError: If rows cannot be used.
        NotFoundError: If there is no such dataset.
    """
    return [_dataset_id(server, rows) for rows in (body.dataset, body.validation)]


def accepted_spec(
    server: Context, body: JobBody, profile: Profile, ids: Sequence[str | None]
) -> tuple[dict[str, Any], Sequence[str]]:
    """The spec of a job whose rows and settings fit each other and the base, and the warnings about its rows.

    Args:
        server: The server's parts.
        body: The request.
        profile: The job's profile.
        ids: Of `stored_rows`.

    Raises:
        InputError: If settings or rows cannot be used.
    """
    spec = spec_of(body, profile, *ids)
    spec |= {} if body.webhook is None else {"webhook": body.webhook}
    return spec, inspected(server, body, profile, spec, lambda: _read(server, ids, body.task)).warnings


def profile_of(server: Context, body: JobBody) -> Profile:
    """The resolved profile of a job, with the base that this server has loaded.

    Raises:
        InputError: If the profile cannot be used, or names a tracker that the operator does not allow.
        ConflictError: If the client of a tracker is not installed.
        NotFoundError: If no profile has this name.
    """
    if isinstance(body.profile, str):
        if body.profile.endswith((".yaml", ".yml")):
            raise InputError("profile: a request may name a profile, but not a file")
        profile = load_profile(body.profile, body.overrides)
    else:
        profile = resolve(body.profile, body.overrides)
    check_trackers(profile.trackers, server.settings.trackers)
    return profile.model_copy(update={"model": server.settings.model})


def check_base(server: Context, body: JobBody) -> None:
    """Refuses a job that is meant for another base than the loaded one.

    Raises:
        ConflictError: If the job names another base.
        NotReadyError: If the base is still loading.
    """
    base = server.device.base
    if body.model not in (None, base.name):
        raise ConflictError(
            f"this server has loaded {base.name!r}, the job asks for {body.model!r}",
            hint=f"Start a server with --base {body.model}, or leave model out.",
        )


def inspected(
    server: Context,
    body: JobBody,
    profile: Profile,
    spec: Mapping[str, Any],
    read: Callable[[], Sequence[Dataset | None]],
) -> Inspection:
    """The inspection of a job's rows, from the cache if it was made before.

    Args:
        server: The server's parts.
        body: The request.
        profile: The job's profile.
        spec: The result of `spec_of`.
        read: Reads the training rows and the validation rows.

    Raises:
        InputError: If rows or settings cannot be used.
    """
    base, tokenizer = server.device.base, server.tokenizer
    check_layers(base, profile)
    key = inspection_key(spec)
    return server.inspection_cache.once(key, lambda: inspect(base, tokenizer, body, profile, read()))


def _dataset_id(server: Context, rows: Rows | None) -> str | None:
    if isinstance(rows, list):
        return keep_rows(server, rows, None).id
    return keep_benchmark(server, rows).id if isinstance(rows, BenchmarkRows) else rows


def _read(server: Context, ids: Sequence[str | None], task: Task | None) -> list[Dataset | None]:
    return [None if id is None else server.directory.read(server.dataset_table.get(id), task) for id in ids]
