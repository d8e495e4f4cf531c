"""What a job would need, before it is made."""

from typing import Any

from fastapi import APIRouter, Depends

from server.replies import EstimateReply
from server.routes.guards import paced
from server.schemas import JobBody
from server.services.context import Server
from server.services.estimates import estimated

router = APIRouter(tags=["jobs"])


@router.post("/estimate", dependencies=[Depends(paced)], responses={200: {"model": EstimateReply}})
def estimate_job(body: JobBody, server: Server) -> dict[str, Any]:
    """Memory part by part, whether it fits, forwards and seconds. The body of POST /jobs; nothing is kept."""
    return estimated(server, body)
