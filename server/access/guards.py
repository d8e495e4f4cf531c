"""What single routes ask of those that come in: room for what is kept, a place for a reader of events."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from server.access.room import KEEPING
from server.context import Server


async def room_for_more(request: Request, server: Server) -> None:
    """Refuses what would be kept, if there is no room for it. Of every route: it knows which keep things."""
    if request.method == "POST" and request.url.path in KEEPING:
        length = request.headers.get("content-length", "0")
        await run_in_threadpool(server.room.check, int(length) if length.isdecimal() else 0)


async def _place_for_a_reader(server: Server) -> AsyncIterator[None]:
    async with server.streams.place():
        yield


READER = Depends(_place_for_a_reader)
Reader = Annotated[None, READER]
