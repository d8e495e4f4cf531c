"""Texts, gone on with by the base or an adapter."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from server.answering import Answer, Question, checked, streamed_answer, whole_answer
from server.context import Context, Server
from server.openai.answers import STREAM, Envelope, events, finish_of, fresh_seed, usage_of
from server.openai.models import adapter_of
from server.openai.parameters import CompletionBody
from server.openai.schemas import Completion, CompletionChoice
from steerzo_edge.generation import Generation

router = APIRouter()
CHUNK = "text_completion"


@router.post("/completions", response_model=None, responses={200: {"model": Completion, "content": STREAM}})
async def create_completion(body: CompletionBody, request: Request, server: Server) -> Response:
    """How each text goes on; whole, or streamed."""
    adapter = await run_in_threadpool(adapter_of, server, body.model)
    questions = body.questions(adapter, fresh_seed())
    envelope = Envelope.new("cmpl", body.model)
    for question in questions:
        await checked(server, question)
    if body.stream:
        return EventSourceResponse(events(_chunks(server, questions, envelope, body.with_usage)))
    made = [(await whole_answer(server, question, request)).made for question in questions]
    choices = [
        CompletionChoice(index=index, text=one.text, finish_reason=finish_of(one.finish_reason))
        for index, one in enumerate(made)
    ]
    shown = Completion(
        id=envelope.id, created=envelope.created, model=body.model, choices=choices, usage=usage_of(*made)
    )
    return JSONResponse(shown.model_dump())


async def _chunks(
    server: Context, questions: list[Question], envelope: Envelope, with_usage: bool
) -> AsyncIterator[dict[str, Any]]:
    made: list[Generation] = []
    for index, question in enumerate(questions):
        async with aclosing(await streamed_answer(server, question)) as pieces:
            async for piece in pieces:
                if not isinstance(piece, Answer):
                    yield envelope.chunk(CHUNK, [_choice(index, piece)])
                    continue
                made.append(piece.made)
                yield envelope.chunk(CHUNK, [_choice(index, "", finish_of(piece.made.finish_reason))])
    if with_usage:
        yield envelope.chunk(CHUNK, [], usage_of(*made))


def _choice(index: int, text: str, finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "finish_reason": finish_reason, "logprobs": None}
