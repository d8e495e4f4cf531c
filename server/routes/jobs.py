"""Fine-tuning jobs: posted, watched, cancelled, and their adapters fetched."""

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
LARGEST_STEP = 2**62  # what SQLite can hold


@router.post("/jobs", dependencies=[Depends(throttled)], status_code=202, responses={202: {"model": JobReply}})
def create_job(
    body: JobBody,
    server: Server,
    response: Response,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> dict[str, Any]:
    """Checks everything that can be checked, then puts the job into the queue."""
    job = accept(server, body, idempotency_key)
    response.headers["Location"] = f"/jobs/{job.id}"
    return job_reply(server, job)


@router.get("/jobs", responses={200: {"model": JobsReply}})
def list_jobs(
    server: Server,
    state: Annotated[State | None, Query(description="Only those in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 100,
    before: Annotated[str | None, Query(max_length=200, description="Only those older than this job.")] = None,
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
    """Halts a job within one step; the next in the queue has its turn."""
    return job_reply(server, server.runner.pause(job))


@router.post("/jobs/{job_id}/resume", status_code=202, responses={202: {"model": JobReply}})
def resume_job(job: Job, server: Server) -> dict[str, Any]:
    """Lets a paused or failed job go on where it was."""
    resumed = server.runner.resume(job)
    server.device.wake()
    return job_reply(server, resumed)


@router.post("/jobs/{job_id}/cancel", status_code=202, responses={202: {"model": JobReply}})
def cancel_job(job: Job, server: Server) -> dict[str, Any]:
    """Ends a job within one step; what it has learned so far is kept as its adapter."""
    return job_reply(server, server.runner.cancel(job))


@router.delete("/jobs/{job_id}", status_code=204)
def delete_job(job: Job, server: Server) -> Response:
    """Forgets a job that does not run: its events, its journal and its adapter."""
    server.runner.delete(job)
    return Response(status_code=204)


@router.get("/jobs/{job_id}/events", status_code=200, response_class=EventStream)
async def watch_job(job: Job, server: Server, last_event_id: Annotated[str | None, Header()] = None) -> EventStream:
    """Everything that happened and happens: `step`, `eval`, `state`, `log`. Ends when the job ends.

    Also the run's own decisions: `tune` (what "auto" found) and `watch` (what goes wrong, what is done about it).

    A step's id is its index. Last-Event-ID goes on behind that step; without it all events come.
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
        int | None, Query(ge=2, le=100_000, description="At most so many steps, evenly spread.")
    ] = None,
) -> dict[str, Any]:
    """The whole series of steps and evaluations, what the run decided on its own, and what happened when."""
    return series(server.job_table, job.id, points)


@router.get("/jobs/{job_id}/journal", response_class=FileResponse, responses=binary("text/plain"))
def job_journal(job: Job, server: Server) -> FileResponse:
    """The journal as it is now: every step's seeds and weights, enough to replay the run."""
    path = server.directory.job(job.id) / "journal"
    if not path.exists():
        raise ConflictError(f"job {job.id} is {job.state} and has no journal yet")
    return FileResponse(path, media_type="text/plain", filename=f"{job.id}.journal")


@router.get("/jobs/{job_id}/adapter", response_class=Response, responses=binary("application/zip"))
async def job_adapter(request: Request, job: Job, server: Server, format: Format = "peft") -> Response:
    """The finished adapter as a zip: a PEFT directory, merged into the base, or a GGUF file of either."""
    row = await run_in_threadpool(lambda: server.adapters.names.find(job.id).stored())
    return await adapter_download(request, server, row, format, name=job.id)
