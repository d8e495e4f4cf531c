"""Routes of fine-tuning jobs: post, list, pause, resume, cancel, delete; events, metrics, journal, adapter."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from server.dependencies import Job, Server, throttled
from server.routes.adapters import Format
from server.routes.event_stream import EventStream
from server.routes.replies import JobReply, JobsReply, SeriesReply, binary
from server.services.downloads import adapter_download
from server.services.job_reply import job_reply
from server.services.jobs import accept
from server.services.request_bodies import JobBody
from server.services.series import series
from server.store.states import State
from steerzo_edge.errors import ConflictError

router = APIRouter(tags=["jobs"])
LARGEST_STEP = 2**62  # below SQLite's largest integer


@router.post("/jobs", dependencies=[Depends(throttled)], status_code=202, responses={202: {"model": JobReply}})
def create_job(
    body: JobBody,
    server: Server,
    response: Response,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> dict[str, Any]:
    """Checks the job completely, then puts it into the queue."""
    job = accept(server, body, idempotency_key)
    response.headers["Location"] = f"/jobs/{job.id}"
    return job_reply(server, job)


@router.get("/jobs", responses={200: {"model": JobsReply}})
def list_jobs(
    server: Server,
    state: Annotated[State | None, Query(description="Only jobs in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most jobs to list.")] = 100,
    before: Annotated[str | None, Query(max_length=200, description="Only jobs older than this job.")] = None,
) -> dict[str, Any]:
    """Jobs, newest first, page by page."""
    number = None if before is None else server.job_table.get(before).number
    found = server.job_table.page(before=number, limit=limit, state=state)
    return {"jobs": [job_reply(server, job) for job in found]}


@router.get("/jobs/{job_id}", responses={200: {"model": JobReply}})
def show_job(job: Job, server: Server) -> dict[str, Any]:
    """One job, by id or by name."""
    return job_reply(server, job)


@router.post("/jobs/{job_id}/pause", status_code=202, responses={202: {"model": JobReply}})
def pause_job(job: Job, server: Server) -> dict[str, Any]:
    """Pauses a job at the end of its present step; the next job in the queue runs."""
    return job_reply(server, server.runner.pause(job))


@router.post("/jobs/{job_id}/resume", status_code=202, responses={202: {"model": JobReply}})
def resume_job(job: Job, server: Server) -> dict[str, Any]:
    """Continues a paused or failed job from its last step."""
    resumed = server.runner.resume(job)
    server.device.wake()
    return job_reply(server, resumed)


@router.post("/jobs/{job_id}/cancel", status_code=202, responses={202: {"model": JobReply}})
def cancel_job(job: Job, server: Server) -> dict[str, Any]:
    """Cancels a job at the end of its present step; its adapter up to there is kept."""
    return job_reply(server, server.runner.cancel(job))


@router.delete("/jobs/{job_id}", status_code=204)
def delete_job(job: Job, server: Server) -> Response:
    """Deletes a job that is not running, with its events, journal and adapter."""
    server.runner.delete(job)
    return Response(status_code=204)


@router.get("/jobs/{job_id}/events", status_code=200, response_class=EventStream)
async def watch_job(job: Job, server: Server, last_event_id: Annotated[str | None, Header()] = None) -> EventStream:
    """Past and new events of a job: `step`, `eval`, `state`, `log`. Ends when the job ends.

    Also the run's own decisions: `tune` (the values that "auto" chose) and `watch` (a problem, and the reaction).

    A step's event has the step's index as id. With Last-Event-ID the stream begins after that step; without it, at
    the first event.
    """
    after = 0
    if last_event_id is not None:
        step = int(last_event_id) if last_event_id.isdecimal() else -1
        after = await run_in_threadpool(server.job_table.events.seq_of_step, job.id, min(step, LARGEST_STEP))
    server.feeds.check_room()
    return EventStream(server.feeds.watch(job.id, after))


@router.get("/jobs/{job_id}/metrics", responses={200: {"model": SeriesReply}})
def job_metrics(
    job: Job,
    server: Server,
    points: Annotated[
        int | None, Query(ge=2, le=100_000, description="Most steps returned, evenly spread.")
    ] = None,
) -> dict[str, Any]:
    """The series of steps and evaluations, the run's own decisions, and the log of states and messages."""
    return series(server.job_table, job.id, points)


@router.get("/jobs/{job_id}/journal", response_class=FileResponse, responses=binary("text/plain"))
def job_journal(job: Job, server: Server) -> FileResponse:
    """The journal so far: every step's seeds and weights, enough to replay the run."""
    path = server.directory.job(job.id) / "journal"
    if not path.exists():
        raise ConflictError(f"job {job.id} is {job.state} and has no journal yet")
    return FileResponse(path, media_type="text/plain", filename=f"{job.id}.journal")


@router.get("/jobs/{job_id}/adapter", response_class=Response, responses=binary("application/zip"))
async def job_adapter(request: Request, job: Job, server: Server, format: Format = "peft") -> Response:
    """A job's adapter as a zip: the PEFT directory, the merged model, or a GGUF file of either."""
    row = await run_in_threadpool(lambda: server.adapters.names.find(job.id).stored())
    return await adapter_download(request, server, row, format, name=job.id)
