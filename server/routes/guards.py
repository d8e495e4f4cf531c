"""What routes ask of those that come in: room for what would be kept, and patience while a job trains."""

import asyncio
from functools import partial

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from server.access.quota import KEEPING
from server.services.context import Server


async def room_for_more(request: Request, server: Server) -> None:
    """Refuses what would be kept, if there is no room for it. Of every route: it knows which keep things."""
    if request.method == "POST" and request.url.path in KEEPING:
        length = request.headers.get("content-length", "0")
        size = int(length) if length.isdecimal() else 0
        datasets = request.url.path != "/adapters"
        await run_in_threadpool(partial(server.room.check, size, datasets=datasets))


async def paced(server: Server) -> None:
    """Lets submissions of jobs wait their turn while one trains.

    Raises:
        BusyError: If too many wait already.
    """
    if server.device.is_training:
        await asyncio.sleep(server.pace.wait_s())
