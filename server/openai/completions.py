"""Text completions with the base or an adapter."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from server.dependencies import Server
from server.openai.answers import STREAM, Envelope, events, finish_of, fresh_seed, usage_of
from server.openai.models import adapter_of
from server.openai.parameters import CompletionBody
from server.openai.schemas import CompletionChoice, TextCompletion
from server.services.generation import FinishedAnswer, TextPiece, streamed_answers, whole_answers
from server.services.logprobs import TextLogprobs, of_texts
from steerzo_edge.decoding.answer import Logprobs
from steerzo_edge.decoding.generate import Generation
from steerzo_edge.decoding.spelling import Spelling

router = APIRouter()
CHUNK = "text_completion"


@router.post("/completions", response_model=None, responses={200: {"model": TextCompletion, "content": STREAM}})
async def create_completion(body: CompletionBody, request: Request, server: Server) -> Response:
    """Continues each text; whole, or streamed."""
    adapter = await run_in_threadpool(adapter_of, server, body.model)
    wanted = body.generation_requests(adapter, fresh_seed())
    texts = len(wanted) // body.answers
    envelope = Envelope.new("cmpl", body.model)
    logprobs_of = partial(
        _text_logprobs, None if body.logprobs is None else Spelling(server.tokenizer), body.logprobs or 0
    )
    if body.stream:
        pieces = await streamed_answers(server, wanted)
        return EventSourceResponse(events(_chunks(pieces, texts, envelope, logprobs_of, body.with_usage)))
    made = [answer.made for answer in await whole_answers(server, wanted, request)]
    choices = [
        CompletionChoice(
            index=index,
            text=one.text,
            finish_reason=finish_of(one.finish_reason),
            logprobs=logprobs_of(one.logprobs),
        )
        for index, one in enumerate(made)
    ]
    whole = TextCompletion(
        id=envelope.id,
        created=envelope.created,
        model=body.model,
        choices=choices,
        usage=usage_of(_by_text(made, texts)),
    )
    return JSONResponse(whole.model_dump())


async def _chunks(
    pieces: AsyncGenerator[tuple[int, TextPiece | FinishedAnswer], None],
    texts: int,
    envelope: Envelope,
    logprobs_of: Callable[[Logprobs], TextLogprobs | None],
    with_usage: bool,
) -> AsyncIterator[dict[str, Any]]:
    made: dict[int, Generation] = {}
    async with aclosing(pieces):
        async for index, piece in pieces:
            if not isinstance(piece, FinishedAnswer):
                yield envelope.chunk(CHUNK, [_choice(index, piece.text, logprobs=logprobs_of(piece.logprobs))])
                continue
            made[index] = piece.made
            yield envelope.chunk(CHUNK, [_choice(index, "", finish_of(piece.made.finish_reason))])
    if with_usage:
        yield envelope.chunk(CHUNK, [], usage_of(_by_text([made[index] for index in sorted(made)], texts)))


def _by_text(made: Sequence[Generation], texts: int) -> list[Sequence[Generation]]:
    """The answers grouped by text; those to one text are consecutive."""
    each = len(made) // texts
    return [made[start : start + each] for start in range(0, len(made), each)]


def _choice(
    index: int, text: str, finish_reason: str | None = None, logprobs: TextLogprobs | None = None
) -> dict[str, Any]:
    dumped = logprobs and logprobs.model_dump()
    return {"index": index, "text": text, "finish_reason": finish_reason, "logprobs": dumped}


def _text_logprobs(spelling: Spelling | None, likeliest: int, logprobs: Logprobs) -> TextLogprobs | None:
    return None if spelling is None else of_texts(spelling, logprobs, likeliest)
