"""Fine-tuning jobs: posted, watched, cancelled, and their adapters fetched."""

import time
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from server.replies import JobReply, JobsReply, SeriesReply, binary
from server.routes.adapters import Format, adapter_zip
from server.routes.guards import paced
from server.schemas import JobBody
from server.services.context import Context, Job, Server
from server.services.jobs import accept
from server.services.series import series
from server.store.rows import Event, JobRow
from server.store.states import GOAL, State
from server.streams import EventStream
from steerzo_edge.errors import ConflictError

router = APIRouter(tags=["jobs"])
SPEED_STEPS = 50
LARGEST_STEP = 2**62  # what SQLite can hold


@router.post("/jobs", dependencies=[Depends(paced)], status_code=202, responses={202: {"model": JobReply}})
def create_job(
    body: JobBody,
    server: Server,
    response: Response,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> dict[str, Any]:
    """Checks everything that can be checked, then puts the job into the queue."""
    job = accept(server, body, idempotency_key)
    response.headers["Location"] = f"/jobs/{job.id}"
    return shown(server, job)


@router.get("/jobs", responses={200: {"model": JobsReply}})
def list_jobs(
    server: Server,
    state: Annotated[State | None, Query(description="Only those in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 100,
    before: Annotated[str | None, Query(max_length=200, description="Only those older than this job.")] = None,
) -> dict[str, Any]:
    """Jobs, newest first, page by page."""
    number = None if before is None else server.store.job(before).number
    found = server.store.page(before=number, limit=limit, state=state)
    return {"jobs": [shown(server, job) for job in found]}


@router.get("/jobs/{job_id}", responses={200: {"model": JobReply}})
def show_job(job: Job, server: Server) -> dict[str, Any]:
    """One job, by id or by name."""
    return shown(server, job)


@router.post("/jobs/{job_id}/pause", status_code=202, responses={202: {"model": JobReply}})
def pause_job(job: Job, server: Server) -> dict[str, Any]:
    """Halts a job within one step; the next in the queue has its turn."""
    return shown(server, server.runner.pause(job))


@router.post("/jobs/{job_id}/resume", status_code=202, responses={202: {"model": JobReply}})
def resume_job(job: Job, server: Server) -> dict[str, Any]:
    """Lets a paused or failed job go on where it was."""
    resumed = server.runner.resume(job)
    server.device.wake()
    return shown(server, resumed)


@router.post("/jobs/{job_id}/cancel", status_code=202, responses={202: {"model": JobReply}})
def cancel_job(job: Job, server: Server) -> dict[str, Any]:
    """Ends a job within one step; what it has learned so far is kept as its adapter."""
    return shown(server, server.runner.cancel(job))


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
        after = await run_in_threadpool(server.store.seq_of_step, job.id, min(step, LARGEST_STEP))
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
    return series(server.store, job.id, points)


@router.get("/jobs/{job_id}/journal", response_class=FileResponse, responses=binary("text/plain"))
def job_journal(job: Job, server: Server) -> FileResponse:
    """The journal as it is now: every step's seeds and weights, enough to replay the run."""
    path = server.library.job(job.id) / "journal"
    if not path.exists():
        raise ConflictError(f"job {job.id} is {job.state} and has no journal yet")
    return FileResponse(path, media_type="text/plain", filename=f"{job.id}.journal")


@router.get("/jobs/{job_id}/adapter", response_class=Response, responses=binary("application/zip"))
async def job_adapter(request: Request, job: Job, server: Server, format: Format = "peft") -> Response:
    """The finished adapter as a zip: a PEFT directory, merged into the base, or a GGUF file of either."""
    row = await run_in_threadpool(lambda: server.adapters.names.find(job.id).kept())
    return await adapter_zip(request, server, row, format, name=job.id)


def shown(server: Context, job: JobRow) -> dict[str, Any]:
    """A job as the API gives it."""
    steps = server.store.last_events(job.id, "step", SPEED_STEPS)
    evaluation = next(iter(server.store.last_events(job.id, "eval", 1)), None)
    last = steps[-1].data if steps else None
    total = job.spec["profile"]["steps"]
    done = 0 if last is None else last["step"] + 1
    kept = None if job.result is None else job.result["after"]
    metrics = kept or (None if evaluation is None else evaluation.data)
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
        "metrics": {} if metrics is None else _metrics(metrics),
        "before": None if job.result is None else job.result["before"],
        "adapter": _adapter(server, job),
        "wish": job.wish,
        "waiting_for": _waiting_for(server, job),
        "error": job.error,
        "profile": job.spec["profile"],
        "seed": job.spec["seed"],
        "task": job.spec["task"],
    }


def _adapter(server: Context, job: JobRow) -> dict[str, Any] | None:
    row = server.adapters.register.of_job(job.id)
    return None if row is None else {"sha256": row.sha256, "step": row.facts["step"]}


def _metrics(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation with every metric beside the loss; those of older servers know the accuracy alone."""
    plain = {key: evaluation[key] for key in ("loss", "accuracy", "examples", "step")}
    return plain | (evaluation.get("metrics") or {})


def _seconds_left(steps: list[Event], left: int) -> float | None:
    if len(steps) < 2:
        return None
    return round((steps[-1].at - steps[0].at) / (len(steps) - 1) * left, 1)


def _waiting_for(server: Context, job: JobRow) -> str | None:
    """Why a job does not run, in words."""
    if job.wish is not None:
        return f"the end of its present step, to be {GOAL[job.wish]}"
    if job.state == "paused":
        return f"POST /jobs/{job.id}/resume"
    if job.state != "queued":
        return None
    ahead = server.store.ahead_of(job)
    if ahead:
        return f"{ahead} job{'s' * (ahead > 1)} ahead"
    left = job.not_before - time.time()
    return f"another attempt in {left:.0f} s" if job.error and left > 0 else "the device"
