"""The Responses API: answers a text or a conversation with the base or an adapter."""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.concurrency import run_in_threadpool

from server.dependencies import Server
from server.errors import problem_of
from server.openai.answers import STREAM, fresh_seed, text_finish_of
from server.openai.models import adapter_of
from server.openai.response_body import ResponseBody
from server.openai.response_objects import Incomplete, ResponseObject, ResponseUsage
from server.openai.response_output import Event, ResponseOutput
from server.openai.tool_use import ToolUse, parts_of, tool_use
from server.openai_errors import error_object
from server.services.generation import FinishedAnswer, TextPiece, streamed_answer, whole_answer
from server.services.sampling_checks import check_sampling
from steerzo_edge.decoding.generate import Generation
from steerzo_edge.errors import SteerzoError

router = APIRouter()


@router.post("/responses", response_model=None, responses={200: {"model": ResponseObject, "content": STREAM}})
async def create_response(body: ResponseBody, request: Request, server: Server) -> Response:
    """Answers a text or a conversation, in the tokenizer's chat template; whole, or streamed. Nothing is stored."""
    adapter = await run_in_threadpool(adapter_of, server, body.model)
    chat = body.chat
    use = await run_in_threadpool(tool_use, server, chat, body.tool_request)
    wanted = body.generation_request(chat, adapter, fresh_seed(), use)
    await check_sampling(server, wanted.sampling, "text.format" if use is None else "tools")
    begun = _begun(body)
    if body.stream:
        pieces = await streamed_answer(server, wanted)
        return EventSourceResponse(_sent(_events(pieces, begun, use)))
    made = (await whole_answer(server, wanted, request)).made
    output = ResponseOutput()
    _ = [*output.take(parts_of(use, made.text)), *output.end(_status(made))]
    return JSONResponse(_ended(begun, made, output).model_dump())


def _begun(body: ResponseBody) -> ResponseObject:
    """The response before it has any output."""
    text = None if body.text is None else body.text.model_dump(by_alias=True, exclude_none=True)
    choice = body.tool_choice or "auto"
    return ResponseObject(
        id=f"resp_{uuid4().hex}",
        created_at=int(time.time()),
        status="in_progress",
        model=body.model,
        output=[],
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        metadata=body.metadata or {},
        parallel_tool_calls=body.parallel_tool_calls is not False,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        text={"format": {"type": "text"}, **(text or {})},
        tool_choice=choice if isinstance(choice, str) else choice.model_dump(),
        tools=[tool.model_dump() for tool in body.tools or []],
    )


def _status(made: Generation) -> Literal["completed", "incomplete"]:
    return "completed" if text_finish_of(made.finish_reason) == "stop" else "incomplete"


def _ended(begun: ResponseObject, made: Generation, output: ResponseOutput) -> ResponseObject:
    """The response with its output."""
    status = _status(made)
    usage = ResponseUsage(
        input_tokens=made.prompt_tokens,
        output_tokens=made.completion_tokens,
        total_tokens=made.prompt_tokens + made.completion_tokens,
    )
    ended: dict[str, Any] = {"status": status, "output": output.items, "usage": usage}
    ended |= {"completed_at": int(time.time())} if status == "completed" else {"incomplete_details": Incomplete()}
    return begun.model_copy(update=ended)


async def _events(
    pieces: AsyncGenerator[TextPiece | FinishedAnswer, None], begun: ResponseObject, use: ToolUse | None
) -> AsyncIterator[Event]:
    for kind in ("created", "in_progress"):
        yield {"type": f"response.{kind}", "response": begun.model_dump()}
    output = ResponseOutput()
    reader = None if use is None else use.reader()
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, TextPiece):
                for event in output.take(reader.put(piece.text) if reader else [piece.text]):
                    yield event
                continue
            for event in (*output.take(reader.end() if reader else []), *output.end(_status(piece.made))):
                yield event
            ended = _ended(begun, piece.made, output)
            yield {"type": f"response.{ended.status}", "response": ended.model_dump()}


async def _sent(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """Events as server-sent events, numbered; an error becomes the last one."""
    number = 0
    try:
        async for event in events:
            yield _line({**event, "sequence_number": number})
            number += 1
    except SteerzoError as error:
        details = error_object(problem_of(error))["error"]
        told = {name: details[name] for name in ("code", "message", "param")}
        yield _line({"type": "error", **told, "sequence_number": number})


def _line(event: Event) -> bytes:
    return format_sse_event(data_str=json.dumps(event), event=event["type"])
