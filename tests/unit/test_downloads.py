"""An export releases its lock at the end: sent whole, broken off, or after the client has gone."""

import asyncio
import io
import time
from collections.abc import Callable
from threading import Lock
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from server.services.downloads import export_response
from server.services.exports import Export
from steerzo_edge.errors import BusyError


class Made:
    """An export that takes until it is unwanted, or is there at once."""

    def __init__(self, *, at_once: bool, gives_up: bool = True) -> None:
        self.turn, self.at_once, self.gives_up = Lock(), at_once, gives_up

    def __call__(self, *, unwanted: Callable[[], bool]) -> Export:
        self.turn.acquire()
        while not (self.at_once or unwanted()):
            time.sleep(0.01)
        if not self.at_once and self.gives_up:
            self.turn.release()
            raise BusyError("the export is unwanted")
        return Export({"model": io.BytesIO(bytes(3 << 20))}, self.turn)


def asking(*, gone: bool) -> Any:
    async def is_disconnected() -> bool:
        return gone

    return SimpleNamespace(is_disconnected=is_disconnected)


async def receive() -> Any:
    await asyncio.Event().wait()


SCOPE: Any = {"type": "http", "asgi": {"spec_version": "2.4"}}


def test_the_turn_of_an_export_ends_when_it_is_sent() -> None:
    made = Made(at_once=True)
    pieces: list[Any] = []

    async def send(message: Any) -> None:
        assert made.turn.locked()
        pieces.append(message)

    async def whole() -> None:
        response = await export_response(asking(gone=False), made, "mine")
        assert made.turn.locked()
        await response(SCOPE, receive, send)

    asyncio.run(whole())
    assert not made.turn.locked()
    assert sum(len(piece.get("body", b"")) for piece in pieces) > 3 << 20
    assert (b"content-disposition", b'attachment; filename="mine.zip"') in pieces[0]["headers"]


@pytest.mark.parametrize("pieces", [0, 2])
def test_the_turn_of_an_export_ends_when_sending_fails(pieces: int) -> None:
    made = Made(at_once=True)
    count = iter(range(pieces))

    async def send(message: Any) -> None:
        if next(count, None) is None:
            raise OSError("gone")

    async def broken() -> None:
        response = await export_response(asking(gone=False), made, "mine")
        with pytest.raises(ClientDisconnect):
            await response(SCOPE, receive, send)

    asyncio.run(broken())
    assert not made.turn.locked()


def test_the_client_disconnects_while_the_file_is_made() -> None:
    made = Made(at_once=False)
    with pytest.raises(BusyError):
        asyncio.run(export_response(asking(gone=True), made, "mine"))
    assert not made.turn.locked()


@pytest.mark.parametrize("gives_up", [True, False])
def test_the_request_is_cancelled(gives_up: bool) -> None:
    made = Made(at_once=False, gives_up=gives_up)

    async def cancelled() -> None:
        task = asyncio.create_task(export_response(asking(gone=False), made, "mine"))
        while not made.turn.locked():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while made.turn.locked():
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(cancelled(), 20))
