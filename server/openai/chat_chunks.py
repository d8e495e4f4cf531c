"""The chunks of a streamed chat completion."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, Final

from server.openai.answers import Envelope, finish_of, usage_of
from server.openai.tool_use import ToolUse, new_call_id
from server.services.generation import FinishedAnswer, TextPiece
from server.services.logprobs import ChatLogprobs, of_tokens
from steerzo_edge.decoding.answer import Logprobs
from steerzo_edge.decoding.calls import Call, CallReader, Part
from steerzo_edge.decoding.generate import Generation
from steerzo_edge.decoding.spelling import Spelling

CHUNK: Final = "chat.completion.chunk"


class ChatChunks:
    """Turns the pieces of answers into chunks. A call is sent whole, in one chunk; text as it comes.

    Args:
        envelope: What all chunks have.
        answers: The number of answers.
        use: How answers may call tools; None if they may not.
        spelling: Spells the tokens for log-probabilities; None sends none.
    """

    def __init__(self, envelope: Envelope, answers: int, use: ToolUse | None, spelling: Spelling | None) -> None:
        self._envelope = envelope
        self._spelling = spelling
        self._readers: list[CallReader | None] = [None if use is None else use.reader() for _ in range(answers)]
        self._calls: list[list[Call]] = [[] for _ in range(answers)]

    async def of(
        self, pieces: AsyncGenerator[tuple[int, TextPiece | FinishedAnswer], None], *, with_usage: bool
    ) -> AsyncIterator[dict[str, Any]]:
        """The chunks.

        Args:
            pieces: The pieces of all answers.
            with_usage: Whether the last chunk has the token counts.
        """
        for index in range(len(self._readers)):
            yield self._chunk(index, {"role": "assistant", "content": ""})
        made: list[Generation] = []
        async with aclosing(pieces):
            async for index, piece in pieces:
                chunks = self._of_text(index, piece) if isinstance(piece, TextPiece) else self._of_end(index, piece)
                for chunk in chunks:
                    yield chunk
                if isinstance(piece, FinishedAnswer):
                    made.append(piece.made)
        if with_usage:
            yield self._envelope.chunk(CHUNK, [], usage_of([made]))

    def _of_text(self, index: int, piece: TextPiece) -> Iterator[dict[str, Any]]:
        reader = self._readers[index]
        parts: list[Part] = [piece.text] if reader is None else reader.put(piece.text)
        deltas = [self._delta(index, part) for part in parts]
        # Tokens of a call, and of text that may begin one, have log-probabilities before there is anything to show.
        if piece.logprobs and not deltas:
            deltas = [{"content": ""}]
        for place, delta in enumerate(deltas):
            yield self._chunk(index, delta, logprobs=() if place else piece.logprobs)

    def _of_end(self, index: int, answer: FinishedAnswer) -> Iterator[dict[str, Any]]:
        reader = self._readers[index]
        for part in () if reader is None else reader.end():
            yield self._chunk(index, self._delta(index, part))
        yield self._chunk(index, {}, finish_of(answer.made.finish_reason, self._calls[index]))

    def _delta(self, index: int, part: Part) -> dict[str, Any]:
        if isinstance(part, str):
            return {"content": part}
        calls = self._calls[index]
        function = {"name": part.name, "arguments": part.arguments}
        call = {"index": len(calls), "id": new_call_id(), "type": "function", "function": function}
        calls.append(part)
        return {"tool_calls": [call]}

    def _chunk(
        self, index: int, delta: dict[str, Any], finish_reason: str | None = None, logprobs: Logprobs | None = None
    ) -> dict[str, Any]:
        found = None if logprobs is None else chat_logprobs(logprobs, self._spelling)
        dumped = found and found.model_dump()
        choice = {"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": dumped}
        return self._envelope.chunk(CHUNK, [choice])


def chat_logprobs(logprobs: Logprobs, spelling: Spelling | None) -> ChatLogprobs | None:
    """Log-probabilities as chat completions have them; None if there is no spelling, because none are requested."""
    return None if spelling is None else ChatLogprobs(content=of_tokens(spelling, logprobs))
