"""Shared by chat and text completions: ids, token counts, and streams of chunks."""

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from secrets import randbits
from typing import Any, Final, Literal
from uuid import uuid4

from fastapi.sse import format_sse_event

from server.errors import problem_of
from server.openai.schemas import TokenUsage
from server.openai_errors import error_object
from steerzo_edge.decoding.calls import Call
from steerzo_edge.decoding.generate import FinishReason, Generation
from steerzo_edge.errors import SteerzoError

DONE: Final = format_sse_event(data_str="[DONE]")
STREAM: Final[dict[str, Any]] = {"text/event-stream": {"schema": {"type": "string"}}}


@dataclass(frozen=True, slots=True)
class Envelope:
    """The fields that all chunks of an answer have."""

    id: str
    created: int
    model: str

    @classmethod
    def new(cls, kind: str, model: str) -> "Envelope":
        """An envelope with a random id.

        Args:
            kind: Prefix of the id.
            model: The model's name from the request.
        """
        return cls(f"{kind}-{uuid4().hex}", int(time.time()), model)

    def chunk(self, kind: str, choices: list[dict[str, Any]], usage: TokenUsage | None = None) -> dict[str, Any]:
        """A chunk of a stream; only the last one has the token counts."""
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}
        return head if usage is None else {**head, "usage": usage.model_dump()}


def fresh_seed() -> int:
    """A random seed, for a request that gives none."""
    return randbits(63)


def usage_of(made: Sequence[Sequence[Generation]]) -> TokenUsage:
    """The token counts of several answers.

    Args:
        made: The answers to each prompt; a prompt's tokens count once.
    """
    read = sum(answers[0].prompt_tokens for answers in made)
    written = sum(one.completion_tokens for answers in made for one in answers)
    return TokenUsage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


def text_finish_of(reason: FinishReason) -> Literal["stop", "length"]:
    """Why an answer ended, in OpenAI's terms; a timeout counts as "length"."""
    return "stop" if reason == "stop" else "length"


def finish_of(reason: FinishReason, calls: Sequence[Call]) -> Literal["stop", "length", "tool_calls"]:
    """Why an answer ended that may have calls of tools; see `text_finish_of`."""
    finish = text_finish_of(reason)
    return "tool_calls" if calls and finish == "stop" else finish


async def events(chunks: AsyncIterator[Mapping[str, Any]]) -> AsyncIterator[bytes]:
    """Chunks as server-sent events; an error becomes the last event."""
    try:
        async for chunk in chunks:
            yield format_sse_event(data_str=json.dumps(chunk))
    except SteerzoError as error:
        yield format_sse_event(data_str=json.dumps(error_object(problem_of(error))))
        return
    yield DONE
