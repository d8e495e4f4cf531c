"""Whether the process lives, and whether it can work."""

import os
import shutil
from typing import Any

from fastapi import APIRouter

from server.context import Server
from server.problems import NotReadyError
from steerzo_edge import __version__

router = APIRouter(tags=["health"])
LEAST_DISK_BYTES = 64 << 20


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive", "version": __version__}


@router.get("/readyz")
async def readyz(server: Server) -> dict[str, Any]:
    """The base is loaded, and the disk can be written; otherwise 503 with the reason."""
    if server.failure is not None:
        raise NotReadyError(str(server.failure), hint="Start the server with another base.")
    base = server.device.base
    root = server.library.root
    free = shutil.disk_usage(root).free
    if free < LEAST_DISK_BYTES or not os.access(root, os.W_OK):
        raise NotReadyError(f"{root} has {free >> 20} MiB free or cannot be written", hint="Free some space.")
    return {
        "status": "ready",
        "base": base.name,
        "quantization": base.quantization,
        "device": str(base.device),
        "context_length": base.context_length,
    }
