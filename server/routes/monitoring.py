"""Metrics for Prometheus. The route needs an API key: set `authorization` in the scrape configuration."""

from collections import Counter
from collections.abc import Sequence
from typing import get_args

import psutil
import torch
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from server.dependencies import Server
from server.metrics import MEDIA_TYPE, Gauge
from server.services.context import Context
from server.store.states import State

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(server: Server) -> Response:
    """Counters and gauges in Prometheus' text format."""
    return Response(server.metrics.text(), media_type=MEDIA_TYPE)


def gauges(server: Context) -> Sequence[Gauge]:
    """The gauges, whose values are read when metrics are requested."""

    def jobs() -> dict[str, float]:
        rows = server.database.rows("SELECT state, COUNT(*) AS number FROM jobs GROUP BY state")
        found = Counter({row["state"]: row["number"] for row in rows})
        return {state: found[state] for state in get_args(State)}

    def free() -> float:
        return psutil.disk_usage(str(server.directory.root)).free

    return (
        Gauge("jobs", "Jobs by state.", jobs, "state"),
        Gauge("queue_length", "Jobs that wait for the device.", lambda: jobs()["queued"]),
        Gauge("waiting_prompts", "Prompts that wait for the device.", lambda: server.device.waiting),
        Gauge("device_seconds", "Seconds of the device by use.", lambda: server.device.seconds, "use"),
        Gauge("event_readers", "Open streams of events.", lambda: server.feeds.readers),
        Gauge(
            "time_slice_seconds",
            "Seconds that the device's present time slice has taken so far.",
            lambda: server.device.time_slice_s,
        ),
        Gauge("data_bytes", "Bytes in the data directory.", server.quota.held_bytes),
        Gauge("disk_free_bytes", "Free bytes on the data directory's disk.", free),
        Gauge("device_memory_bytes", "Memory of the device by use; on a CPU that of the process.", _memory, "use"),
    )


def _memory() -> dict[str, float]:
    if not torch.cuda.is_available():
        return {"allocated": psutil.Process().memory_info().rss}
    free, total = torch.cuda.mem_get_info()
    return {"allocated": torch.cuda.memory_allocated(), "free": free, "total": total}
