"""The state of the server and of the machine it runs on."""

import platform
import time
from collections import Counter
from importlib import metadata
from typing import Any, Final

import psutil
import torch
from fastapi import APIRouter

from server.dependencies import Server
from server.errors import NoRoomError, NotReadyError
from server.routes.replies import SystemReply
from server.services.context import Context
from server.services.readiness import check
from steerzo_edge import __version__
from steerzo_edge.estimate.cgroup import cgroup_free_bytes
from steerzo_edge.estimate.free import free_bytes
from steerzo_edge.model.base import Base

router = APIRouter(tags=["health"])
PACKAGES: Final = ("torch", "transformers", "bitsandbytes", "safetensors", "fastapi")
_BEGAN: Final = time.time()


@router.get("/system", responses={200: {"model": SystemReply}})
def system(server: Server) -> dict[str, Any]:
    """Base, device, memory, disk, queue and versions; and why the server is not ready, if it is not."""
    base = _loaded(server)
    return {
        "version": __version__,
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
        "started": _BEGAN,
        "objection": _objection(server),
        "base": None if base is None else _base(base),
        "device": _device(base),
        "memory": _memory(base),
        "disk": _disk(server),
        "queue": _queue(server),
        "limits": {
            "upload_bytes": server.settings.max_upload_bytes,
            "waiting_jobs": server.settings.max_waiting_jobs,
            "waiting_prompts": server.settings.max_waiting_prompts,
        },
    }


def _loaded(server: Context) -> Base | None:
    try:
        return server.device.base
    except NotReadyError:
        return None


def _objection(server: Context) -> dict[str, str] | None:
    """Why the server is not ready; None if it is."""
    try:
        check(server)
    except (NotReadyError, NoRoomError) as error:
        return {"detail": str(error), "hint": error.hint}
    return None


def _base(base: Base) -> dict[str, Any]:
    return {
        "name": base.name,
        "quantization": base.quantization,
        "compute_dtype": str(base.compute_dtype).removeprefix("torch."),
        "context_length": base.context_length,
        "chat": base.tokenizer.chat_template is not None,
    }


def _device(base: Base | None) -> dict[str, Any]:
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    if base is not None:
        kind = base.device.type
    if kind == "cuda":
        return {"kind": kind, "name": torch.cuda.get_device_name(), "threads": torch.get_num_threads()}
    return {"kind": kind, "name": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}


def _memory(base: Base | None) -> dict[str, int]:
    """Bytes of the device's memory; "process" is this process's resident memory on the host."""
    process = int(psutil.Process().memory_info().rss)
    if base is not None and base.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(base.device)
        used = int(torch.cuda.memory_allocated(base.device))
        return {"used": used, "free": int(free), "total": int(total), "process": process}
    free = free_bytes(torch.device("cpu"))
    limited = cgroup_free_bytes()
    machine = int(psutil.virtual_memory().total)
    total = machine if limited is None else min(machine, limited + process)
    return {"used": process, "free": free, "total": total, "process": process}


def _disk(server: Context) -> dict[str, int | None]:
    usage = psutil.disk_usage(str(server.directory.root))
    held = server.quota.held_bytes()
    return {"held": held, "free": usage.free, "total": usage.total, "quota": server.settings.max_data_bytes}


def _queue(server: Context) -> dict[str, Any]:
    rows = server.database.rows("SELECT state, COUNT(*) AS number FROM jobs GROUP BY state")
    return {
        "jobs": dict(Counter({row["state"]: row["number"] for row in rows})),
        "waiting_prompts": server.device.waiting,
        "answering_prompts": server.device.answering,
        "event_readers": server.feeds.readers,
    }
