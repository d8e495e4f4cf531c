"""Answers from the base with any adapter, whole or streamed, also while a job runs."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, format_sse_event

from server.context import Context, Server
from server.problems import problem_of
from server.schemas import GenerateBody
from steerzo_edge.data.examples import Message
from steerzo_edge.errors import SteerzoError
from steerzo_edge.generation import Generation, Sampling, encode_prompt, generate
from steerzo_edge.model.base import Base

router = APIRouter(tags=["generate"])
DISCONNECT_POLL_S = 0.5
Answer = tuple[str | None, Generation]


class _Request:
    """One prompt on its way through the device's thread.

    Args:
        server: The server's parts.
        body: What was asked.
        loop: Where pieces of text are put.
    """

    def __init__(self, server: Context, body: GenerateBody, loop: asyncio.AbstractEventLoop) -> None:
        self.pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._server = server
        self._body = body
        self._loop = loop
        self._gone = threading.Event()
        self._turns = [Message(m.role, m.content) for m in body.messages] if body.messages else body.prompt or ""

    def check(self, base: Base) -> None:
        """Finds what is wrong with the prompt before anything is streamed."""
        encode_prompt(base, self._turns, self._body.max_new_tokens)
        if self._body.adapter is not None:
            self._server.runner.adapter(self._body.adapter)

    def answer(self, base: Base) -> Answer:
        """Called on the device's thread."""
        body = self._body
        try:
            name, patches = (None, None) if body.adapter is None else self._server.runner.adapter(body.adapter)
            sampling = Sampling(
                body.max_new_tokens, body.temperature, body.top_p, body.top_k, tuple(body.stop), body.seed
            )
            return name, generate(
                base, self._turns, patches, sampling, on_text=self._put, cancelled=self._gone.is_set
            )
        finally:
            self._put(None)

    def leave(self) -> None:
        """The client is gone: the answer ends at its next token."""
        self._gone.set()

    def _put(self, piece: str | None) -> None:
        self._loop.call_soon_threadsafe(self.pieces.put_nowait, piece)


@router.post("/generate", response_model=None)
async def answer(body: GenerateBody, request: Request, server: Server) -> Response:
    """The answer as JSON, or with `stream` as events: `token`, ..., `done`."""
    asked = _Request(server, body, asyncio.get_running_loop())
    if body.stream:
        await asyncio.wrap_future(server.device.submit(asked.check))
        future = server.device.submit(asked.answer)
        return EventSourceResponse(_stream(asked, future))
    result = asyncio.wrap_future(server.device.submit(asked.answer))
    try:
        while not result.done():
            await asyncio.wait([result], timeout=DISCONNECT_POLL_S)
            if await request.is_disconnected():
                asked.leave()
    finally:
        asked.leave()
    return JSONResponse(_shown(await result))


async def _stream(asked: _Request, future: Future[Answer]) -> AsyncIterator[bytes]:
    try:
        while (piece := await asked.pieces.get()) is not None:
            yield _event("token", {"text": piece})
        yield _event("done", _shown(await asyncio.wrap_future(future)))
    except SteerzoError as error:
        yield _event("error", problem_of(error))
    finally:
        asked.leave()


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return format_sse_event(event=kind, data_str=json.dumps(data))


def _shown(answer: Answer) -> dict[str, Any]:
    name, made = answer
    return {
        "text": made.text,
        "adapter": name,
        "finish_reason": made.finish_reason,
        "usage": {"prompt_tokens": made.prompt_tokens, "completion_tokens": made.completion_tokens},
    }
