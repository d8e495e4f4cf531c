"""Routes of sweeps: start, plan, list, show, cancel."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response

from server.dependencies import Server, throttled
from server.routes.replies import Reply
from server.services.sweep_body import SweepBody
from server.services.sweeps import cancel_sweep, planned_sweep, start_sweep, sweep_ids, sweep_reply

router = APIRouter(tags=["jobs"])


class SweepReply(Reply):
    """A sweep, and the table of its jobs."""

    id: str
    name: str
    created: float
    count: int
    ended: int
    state: str
    settings: list[str]
    metric: str
    runs: list[dict[str, Any]]
    best: dict[str, Any] | None


class SweepsReply(Reply):
    """The newest sweeps, newest first."""

    sweeps: list[SweepReply]


class SweepPlanReply(Reply):
    """What the jobs of a sweep are expected to need."""

    count: int
    seconds: float
    bytes: int
    runs: list[dict[str, Any]]


@router.post("/sweeps", dependencies=[Depends(throttled)], status_code=202, responses={202: {"model": SweepReply}})
def create_sweep(
    body: SweepBody,
    server: Server,
    response: Response,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> dict[str, Any]:
    """Checks all jobs of the sweep completely, then puts them into the queue."""
    id = start_sweep(server, body, idempotency_key)
    response.headers["Location"] = f"/sweeps/{id}"
    return sweep_reply(server, id)


@router.post("/sweeps/plan", dependencies=[Depends(throttled)], responses={200: {"model": SweepPlanReply}})
def plan_sweep(body: SweepBody, server: Server) -> dict[str, Any]:
    """How many jobs there are, and how long they take. Takes the body of POST /sweeps; stores nothing."""
    return planned_sweep(server, body)


@router.get("/sweeps", responses={200: {"model": SweepsReply}})
def list_sweeps(server: Server, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> dict[str, Any]:
    """The newest sweeps, newest first."""
    return {"sweeps": [sweep_reply(server, id) for id in sweep_ids(server, limit)]}


@router.get("/sweeps/{sweep_id}", responses={200: {"model": SweepReply}})
def show_sweep(sweep_id: str, server: Server) -> dict[str, Any]:
    """One sweep: its jobs in one table, the best first."""
    return sweep_reply(server, sweep_id)


@router.post("/sweeps/{sweep_id}/cancel", status_code=202, responses={202: {"model": SweepReply}})
def cancel_jobs_of_sweep(sweep_id: str, server: Server) -> dict[str, Any]:
    """Cancels the jobs of a sweep that have not ended."""
    cancel_sweep(server, sweep_id)
    return sweep_reply(server, sweep_id)
