"""Whether the process runs, and whether it is ready. These routes need no key, so their answers say little."""

from typing import Any

from fastapi import APIRouter

from server.dependencies import Server
from server.routes.replies import Alive, Ready
from server.services.readiness import check
from steerzo_edge import __version__

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=Alive)
async def healthz() -> dict[str, str]:
    """The process is running."""
    return {"status": "alive", "version": __version__}


@router.get("/readyz", response_model=Ready)
def readyz(server: Server) -> dict[str, Any]:
    """The base is loaded, the device works, disk and database can be written; otherwise 503 with the reason."""
    check(server)
    base = server.device.base
    return {
        "status": "ready",
        "base": base.name,
        "quantization": base.quantization,
        "device": str(base.device),
        "context_length": base.context_length,
    }
