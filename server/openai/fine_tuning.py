"""Fine-tuning jobs as the `openai` client makes and follows them: the jobs of /jobs, as OpenAI's objects."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request

from server.dependencies import Job, Server, throttled
from server.openai.job_objects import checkpoint_objects, event_object, job_object
from server.openai.schemas import CheckpointObject, EventObject, JobObject, Page
from server.openai.tuning import TuningBody, extras, job_body
from server.services.jobs import accept
from server.store.rows import JobRow
from steerzo_edge.errors import Fault, InputError

router = APIRouter(prefix="/fine_tuning/jobs")
ALL = -1
Limit = Annotated[int, Query(ge=1, le=1000, description="Most items to list.")]
After = Annotated[str | None, Query(max_length=200, description="The last id of the previous page.")]


@router.post("", dependencies=[Depends(throttled)])
def create_fine_tuning_job(
    body: TuningBody, server: Server, idempotency_key: Annotated[str | None, Header(max_length=200)] = None
) -> JobObject:
    """Checks the job completely, then puts it into the queue."""
    job = accept(server, job_body(server, body, idempotency_key), idempotency_key, openai=extras(body))
    return job_object(server, job)


@router.get("")
def list_fine_tuning_jobs(
    request: Request, server: Server, limit: Limit = 20, after: After = None
) -> Page[JobObject]:
    """Jobs, newest first; `metadata[key]=value` lists only jobs with this metadata."""
    before = None if after is None else server.job_table.get(after).number
    wanted = _metadata(request)
    found = server.job_table.page(before=before, limit=ALL if wanted is not None else limit + 1)
    if wanted is not None:
        found = [job for job in found if _has(job, wanted)]
    jobs = [job_object(server, job) for job in found[:limit]]
    return _page(jobs, more=len(found) > limit)


@router.get("/{job_id}")
def retrieve_fine_tuning_job(job: Job, server: Server) -> JobObject:
    """One job."""
    return job_object(server, job)


@router.get("/{job_id}/events")
def list_fine_tuning_events(job: Job, server: Server, limit: Limit = 20, after: After = None) -> Page[EventObject]:
    """A job's events, newest first."""
    found = server.job_table.events.newest(job.id, before=_seq(after), limit=limit + 1)
    return _page([event_object(event) for event in found[:limit]], more=len(found) > limit)


@router.get("/{job_id}/checkpoints")
def list_fine_tuning_checkpoints(
    job: Job, server: Server, limit: Limit = 10, after: After = None
) -> Page[CheckpointObject]:
    """A job's checkpoints: one, once the job has stored its adapter."""
    found = checkpoint_objects(server, job)
    if after is not None:
        places = [place for place, checkpoint in enumerate(found) if checkpoint.id == after]
        found = found[places[0] + 1 :] if places else []
    return _page(found[:limit], more=len(found) > limit)


@router.post("/{job_id}/cancel")
def cancel_fine_tuning_job(job: Job, server: Server) -> JobObject:
    """Cancels a job at the end of its present step; its adapter up to there is kept."""
    return job_object(server, server.runner.cancel(job))


@router.post("/{job_id}/pause")
def pause_fine_tuning_job(job: Job, server: Server) -> JobObject:
    """Pauses a job at the end of its present step."""
    return job_object(server, server.runner.pause(job))


@router.post("/{job_id}/resume")
def resume_fine_tuning_job(job: Job, server: Server) -> JobObject:
    """Continues a paused or failed job from its last step."""
    resumed = server.runner.resume(job)
    server.device.wake()
    return job_object(server, resumed)


def _page(items: Sequence[Any], *, more: bool) -> Page[Any]:
    first, last = (items[0].id, items[-1].id) if items else (None, None)
    return Page(data=list(items), first_id=first, last_id=last, has_more=more)


def _seq(after: str | None) -> int | None:
    if after is None:
        return None
    number = after.removeprefix("ftevent-")
    if number == after or not number.isdecimal() or len(number) > 18:
        fault = Fault("after", "", repr(after), 'give the id of an event, such as "ftevent-12"')
        raise InputError(str(fault), faults=[fault])
    return int(number)


def _metadata(request: Request) -> dict[str, str] | None:
    """The metadata to filter by; {} lists jobs without metadata, None does not filter."""
    if request.query_params.get("metadata") == "null":
        return {}
    found = {
        key.removeprefix("metadata[").removesuffix("]"): value
        for key, value in request.query_params.items()
        if key.startswith("metadata[") and key.endswith("]")
    }
    return found or None


def _has(job: JobRow, wanted: dict[str, str]) -> bool:
    metadata = (job.spec.get("openai") or {}).get("metadata")
    return wanted.items() <= metadata.items() if wanted and metadata else not (wanted or metadata)
