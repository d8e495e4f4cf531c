"""Estimates what a job would need, without making it."""

from typing import Any

from fastapi import APIRouter, Depends

from server.dependencies import Server, throttled
from server.routes.estimate_replies import EstimateReply
from server.services.estimates import estimated
from server.services.request_bodies import JobBody

router = APIRouter(tags=["jobs"])


@router.post("/estimate", dependencies=[Depends(throttled)], responses={200: {"model": EstimateReply}})
def estimate_job(body: JobBody, server: Server) -> dict[str, Any]:
    """Memory by part, whether it fits, forwards and seconds. Takes the body of POST /jobs; stores nothing."""
    return estimated(server, body)
