"""What routes ask of those that come in: room for what would be kept."""

from functools import partial

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from server.access.room import KEEPING
from server.context import Server


async def room_for_more(request: Request, server: Server) -> None:
    """Refuses what would be kept, if there is no room for it. Of every route: it knows which keep things."""
    if request.method == "POST" and request.url.path in KEEPING:
        length = request.headers.get("content-length", "0")
        size = int(length) if length.isdecimal() else 0
        datasets = request.url.path != "/adapters"
        await run_in_threadpool(partial(server.room.check, size, datasets=datasets))
