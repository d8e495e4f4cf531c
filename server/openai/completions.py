"""Text completions with the base or an adapter."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from server.dependencies import Server
from server.openai.answers import STREAM, Envelope, events, fresh_seed, text_finish_of, usage_of
from server.openai.completion_body import CompletionBody
from server.openai.models import adapter_of
from server.openai.parameters import MOST_ANSWERS
from server.openai.schemas import CompletionChoice, TextCompletion
from server.services.context import Context
from server.services.generation import FinishedAnswer, TextPiece, streamed_answers, whole_answers
from server.services.logprobs import TextLogprobs, of_prompt, of_texts
from server.services.sampling_checks import check_sampling
from server.services.scoring import EchoedPrompt, echoed_prompts, scored_prompts
from steerzo_edge.decoding.answer import Logprobs
from steerzo_edge.decoding.generate import Generation
from steerzo_edge.decoding.spelling import Spelling

router = APIRouter()
CHUNK = "text_completion"
Pieces = AsyncGenerator[tuple[int, TextPiece | FinishedAnswer], None]


@router.post("/completions", response_model=None, responses={200: {"model": TextCompletion, "content": STREAM}})
async def create_completion(body: CompletionBody, request: Request, server: Server) -> Response:
    """Continues each prompt; whole, or streamed."""
    adapter = await run_in_threadpool(adapter_of, server, body.model)
    seed = fresh_seed()
    wanted = body.generation_requests(body.prompts, adapter, seed)
    await check_sampling(server, wanted[0].sampling, "")
    echoed = await _echoed(server, body, adapter, seed, request) if body.echo else None
    ready = None if echoed is None else _ready(body, echoed)
    shape = _Shape(body, server, echoed)
    if body.stream:
        pieces = await streamed_answers(server, wanted) if ready is None else _at_once(ready)
        return EventSourceResponse(events(_chunks(pieces, Envelope.new("cmpl", body.model), shape)))
    if ready is None:
        ready = []
        for start in range(0, len(wanted), MOST_ANSWERS):  # so that one request does not fill the queue
            answers = await whole_answers(server, wanted[start : start + MOST_ANSWERS], request)
            ready += [(answer, answer.made.logprobs) for answer in answers]
    return JSONResponse(await run_in_threadpool(_completion, body, ready, shape))


async def _echoed(
    server: Context, body: CompletionBody, adapter: str | None, seed: int, http: Request
) -> list[EchoedPrompt]:
    """The prompts as they are echoed, with log-probabilities and answers of one token if they are requested."""
    echoed = await echoed_prompts(server, body.prompts, body.length)
    if not body.with_scores:
        return echoed
    samplings = body.samplings(1, seed, body.logprobs) if body.length == 1 else []
    return await scored_prompts(server, echoed, adapter, body.logprobs or 0, samplings, http)


def _ready(body: CompletionBody, echoed: Sequence[EchoedPrompt]) -> list[tuple[FinishedAnswer, Logprobs]] | None:
    """The answers that need no decoding, with their tokens' log-probabilities; None if they are to be decoded."""
    if body.is_decoded:
        return None
    if body.length == 0:
        empty = [Generation("", "length", len(one.tokens), 0) for one in echoed for _ in range(body.answers)]
        return [(FinishedAnswer(None, made), ()) for made in empty]
    return [answer for one in echoed for answer in one.answers]


@dataclass(frozen=True, slots=True)
class _Echo:
    """What is put before an answer."""

    text: str
    logprobs: TextLogprobs | None


class _Shape:
    """How answers are written: with or without their prompts, log-probabilities and token counts.

    Args:
        body: The request.
        server: The server's parts.
        echoed: The prompts, if they are echoed.
    """

    def __init__(self, body: CompletionBody, server: Context, echoed: Sequence[EchoedPrompt] | None) -> None:
        self.prompts = len(body.prompts)
        self.with_usage = body.with_usage
        self._each = body.answers
        self._likeliest = body.logprobs or 0
        self._spelling = None if body.logprobs is None else Spelling(server.tokenizer)
        self._echoes = None if echoed is None else [self._echo(one) for one in echoed]

    def logprobs(self, logprobs: Logprobs) -> TextLogprobs | None:
        """Log-probabilities of a piece of an answer, if they are requested."""
        return None if self._spelling is None else of_texts(self._spelling, logprobs, self._likeliest)

    def echo(self, index: int) -> _Echo | None:
        """What is put before an answer."""
        return None if self._echoes is None else self._echoes[index // self._each]

    def grouped(self, made: Sequence[Generation]) -> list[Sequence[Generation]]:
        """The answers grouped by prompt; those to one prompt are consecutive."""
        return [made[start : start + self._each] for start in range(0, len(made), self._each)]

    def _echo(self, one: EchoedPrompt) -> _Echo:
        if self._spelling is None or not one.offsets:
            return _Echo(one.text, None)
        return _Echo(one.text, of_prompt(self._spelling, one.tokens[0], one.logprobs, self._likeliest))


def _completion(
    body: CompletionBody, answers: Sequence[tuple[FinishedAnswer, Logprobs]], shape: _Shape
) -> dict[str, Any]:
    """The whole document; with thousands of log-probabilities it takes a while."""
    envelope = Envelope.new("cmpl", body.model)
    choices = []
    for index, (answer, of_answer) in enumerate(answers):
        text, logprobs = answer.made.text, shape.logprobs(of_answer)
        echo = shape.echo(index)
        if echo is not None:
            text = echo.text + text
            if logprobs is not None and echo.logprobs is not None:
                logprobs = logprobs.after(echo.logprobs, len(echo.text))
        finish = text_finish_of(answer.made.finish_reason)
        choices.append(CompletionChoice(index=index, text=text, finish_reason=finish, logprobs=logprobs))
    usage = usage_of(shape.grouped([answer.made for answer, _ in answers]))
    whole = TextCompletion(id=envelope.id, created=envelope.created, model=body.model, choices=choices, usage=usage)
    return whole.model_dump()


async def _at_once(answers: Sequence[tuple[FinishedAnswer, Logprobs]]) -> Pieces:
    """Answers that are already made, as pieces."""
    for index, (answer, logprobs) in enumerate(answers):
        if answer.made.text or logprobs:
            yield index, TextPiece(answer.made.text, logprobs)
        yield index, answer


async def _chunks(pieces: Pieces, envelope: Envelope, shape: _Shape) -> AsyncIterator[dict[str, Any]]:
    made: dict[int, Generation] = {}
    echoed: set[int] = set()
    async with aclosing(pieces):
        async for index, piece in pieces:
            echo = shape.echo(index)
            if echo is not None and index not in echoed:
                echoed.add(index)
                yield envelope.chunk(CHUNK, [_choice(index, echo.text, logprobs=echo.logprobs)])
            if not isinstance(piece, FinishedAnswer):
                logprobs = shape.logprobs(piece.logprobs)
                if echo is not None and logprobs is not None:
                    shift = len(echo.text)
                    logprobs = logprobs.model_copy(
                        update={"text_offset": [offset + shift for offset in logprobs.text_offset]}
                    )
                yield envelope.chunk(CHUNK, [_choice(index, piece.text, logprobs=logprobs)])
                continue
            made[index] = piece.made
            yield envelope.chunk(CHUNK, [_choice(index, "", text_finish_of(piece.made.finish_reason))])
    if shape.with_usage:
        yield envelope.chunk(CHUNK, [], usage_of(shape.grouped([made[index] for index in sorted(made)])))


def _choice(
    index: int, text: str, finish_reason: str | None = None, logprobs: TextLogprobs | None = None
) -> dict[str, Any]:
    dumped = logprobs and logprobs.model_dump()
    return {"index": index, "text": text, "finish_reason": finish_reason, "logprobs": dumped}
