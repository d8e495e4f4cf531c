"""Chat completions with the base or an adapter."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from server.dependencies import Server
from server.openai.answers import STREAM, Envelope, events, finish_of, fresh_seed, usage_of
from server.openai.models import adapter_of
from server.openai.parameters import ChatBody
from server.openai.schemas import ChatChoice, ChatCompletion, ChatMessage
from server.services.generation import FinishedAnswer, TextPiece, streamed_answers, whole_answers
from server.services.logprobs import ChatLogprobs, of_tokens
from server.services.sampling_checks import check_sampling
from steerzo_edge.decoding.answer import Logprobs
from steerzo_edge.decoding.generate import Generation
from steerzo_edge.decoding.spelling import Spelling

router = APIRouter()
CHUNK = "chat.completion.chunk"


@router.post(
    "/chat/completions", response_model=None, responses={200: {"model": ChatCompletion, "content": STREAM}}
)
async def create_chat_completion(body: ChatBody, request: Request, server: Server) -> Response:
    """Answers a conversation, in the tokenizer's chat template; whole, or streamed."""
    adapter = await run_in_threadpool(adapter_of, server, body.model)
    wanted = body.generation_requests(adapter, fresh_seed())
    await check_sampling(server, wanted[0].sampling, "response_format")
    envelope = Envelope.new("chatcmpl", body.model)
    spelling = Spelling(server.tokenizer) if body.logprobs else None
    if body.stream:
        pieces = await streamed_answers(server, wanted)
        return EventSourceResponse(events(_chunks(pieces, len(wanted), envelope, spelling, body.with_usage)))
    made = [answer.made for answer in await whole_answers(server, wanted, request)]
    choices = [
        ChatChoice(
            index=index,
            message=ChatMessage(content=one.text),
            finish_reason=finish_of(one.finish_reason),
            logprobs=_chat_logprobs(one.logprobs, spelling),
        )
        for index, one in enumerate(made)
    ]
    completion = ChatCompletion(
        id=envelope.id, created=envelope.created, model=body.model, choices=choices, usage=usage_of([made])
    )
    return JSONResponse(completion.model_dump())


async def _chunks(
    pieces: AsyncGenerator[tuple[int, TextPiece | FinishedAnswer], None],
    answers: int,
    envelope: Envelope,
    spelling: Spelling | None,
    with_usage: bool,
) -> AsyncIterator[dict[str, Any]]:
    for index in range(answers):
        yield envelope.chunk(CHUNK, [_choice(index, {"role": "assistant", "content": ""})])
    made: list[Generation] = []
    async with aclosing(pieces):
        async for index, piece in pieces:
            if not isinstance(piece, FinishedAnswer):
                logprobs = _chat_logprobs(piece.logprobs, spelling)
                yield envelope.chunk(CHUNK, [_choice(index, {"content": piece.text}, logprobs=logprobs)])
                continue
            made.append(piece.made)
            yield envelope.chunk(CHUNK, [_choice(index, {}, finish_of(piece.made.finish_reason))])
    if with_usage:
        yield envelope.chunk(CHUNK, [], usage_of([made]))


def _choice(
    index: int,
    delta: dict[str, str],
    finish_reason: str | None = None,
    logprobs: ChatLogprobs | None = None,
) -> dict[str, Any]:
    dumped = logprobs and logprobs.model_dump()
    return {"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": dumped}


def _chat_logprobs(logprobs: Logprobs, spelling: Spelling | None) -> ChatLogprobs | None:
    return None if spelling is None else ChatLogprobs(content=of_tokens(spelling, logprobs))
