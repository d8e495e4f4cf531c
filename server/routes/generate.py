"""Generates answers with the base and any adapter, whole or streamed, also while a job runs."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, format_sse_event

from server.dependencies import Server
from server.errors import problem_of
from server.routes.replies import GenerationReply
from server.services.context import Context
from server.services.generation import FinishedAnswer, GenerationRequest, TextPiece, streamed_answer, whole_answer
from server.services.logprobs import of_tokens
from server.services.request_bodies import GenerateBody
from server.services.sampling_checks import check_sampling
from steerzo_edge.data.examples import Message
from steerzo_edge.decoding.answer import Logprobs
from steerzo_edge.decoding.generate import Sampling
from steerzo_edge.decoding.spelling import Spelling
from steerzo_edge.errors import SteerzoError

router = APIRouter(tags=["generate"])


@router.post(
    "/generate",
    response_model=None,
    responses={200: {"model": GenerationReply, "content": {"text/event-stream": {}}}},
)
async def answer(body: GenerateBody, request: Request, server: Server) -> Response:
    """The answer as JSON, or with `stream` as server-sent events: `token`, ..., `done`."""
    wanted = _generation_request(body)
    await check_sampling(server, wanted.sampling, "" if body.form is None else body.form[0])
    spelling = None if body.logprobs is None else Spelling(server.tokenizer)
    if body.stream:
        return EventSourceResponse(_stream(server, await streamed_answer(server, wanted), spelling))
    return JSONResponse(_generation_reply(await whole_answer(server, wanted, request), spelling))


def _generation_request(body: GenerateBody) -> GenerationRequest:
    turns = [Message(m.role, m.content) for m in body.messages] if body.messages else body.prompt or ""
    length, seed, stop = body.max_new_tokens, body.seed, tuple(body.stop)
    sampling = Sampling(
        length,
        body.temperature,
        body.top_p,
        body.top_k,
        stop,
        seed,
        body.logprobs,
        min_p=body.min_p,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        logit_bias=tuple(body.logit_bias.items()),
        form=None if body.form is None else body.form[1],
    )
    return GenerationRequest(turns, sampling, body.adapter)


async def _stream(
    server: Context, pieces: AsyncGenerator[TextPiece | FinishedAnswer, None], spelling: Spelling | None
) -> AsyncIterator[bytes]:
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, FinishedAnswer):
                    yield _event("done", _generation_reply(piece, spelling))
                else:
                    yield _event("token", {"text": piece.text, **_logprobs(piece.logprobs, spelling)})
    except SteerzoError as error:
        server.metrics.failed("stream", error.code)
        yield _event("error", problem_of(error))


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return format_sse_event(event=kind, data_str=json.dumps(data))


def _generation_reply(answer: FinishedAnswer, spelling: Spelling | None) -> dict[str, Any]:
    made = answer.made
    return {
        "text": made.text,
        "adapter": answer.adapter,
        "finish_reason": made.finish_reason,
        "usage": {"prompt_tokens": made.prompt_tokens, "completion_tokens": made.completion_tokens},
        **_logprobs(made.logprobs, spelling),
    }


def _logprobs(logprobs: Logprobs, spelling: Spelling | None) -> dict[str, Any]:
    if spelling is None:
        return {}
    return {"logprobs": [one.model_dump() for one in of_tokens(spelling, logprobs)]}
