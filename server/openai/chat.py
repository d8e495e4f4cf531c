"""Conversations, answered by the base or an adapter."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from server.answering import Answer, streamed_answer, whole_answer
from server.context import Server
from server.openai.answers import STREAM, Envelope, events, finish_of, fresh_seed, usage_of
from server.openai.models import adapter_of
from server.openai.parameters import ChatBody
from server.openai.schemas import ChatChoice, ChatCompletion, ChatMessage

router = APIRouter()
CHUNK = "chat.completion.chunk"


@router.post(
    "/chat/completions", response_model=None, responses={200: {"model": ChatCompletion, "content": STREAM}}
)
async def create_chat_completion(body: ChatBody, request: Request, server: Server) -> Response:
    """The assistant's next turn, in the tokenizer's own chat template; whole, or streamed."""
    adapter = await run_in_threadpool(adapter_of, server, body.model)
    question = body.question(adapter, fresh_seed())
    envelope = Envelope.new("chatcmpl", body.model)
    if body.stream:
        pieces = await streamed_answer(server, question)
        return EventSourceResponse(events(_chunks(pieces, envelope, body.with_usage)))
    made = (await whole_answer(server, question, request)).made
    choice = ChatChoice(message=ChatMessage(content=made.text), finish_reason=finish_of(made.finish_reason))
    shown = ChatCompletion(
        id=envelope.id, created=envelope.created, model=body.model, choices=[choice], usage=usage_of(made)
    )
    return JSONResponse(shown.model_dump())


async def _chunks(
    pieces: AsyncGenerator[str | Answer, None], envelope: Envelope, with_usage: bool
) -> AsyncIterator[dict[str, Any]]:
    yield envelope.chunk(CHUNK, [_choice({"role": "assistant", "content": ""})])
    async with aclosing(pieces):
        async for piece in pieces:
            if not isinstance(piece, Answer):
                yield envelope.chunk(CHUNK, [_choice({"content": piece})])
                continue
            yield envelope.chunk(CHUNK, [_choice({}, finish_of(piece.made.finish_reason))])
            if with_usage:
                yield envelope.chunk(CHUNK, [], usage_of(piece.made))


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
