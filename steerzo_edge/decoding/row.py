"""A request on its way through the decoder: what is asked, what each step brings, and what must outlive a step."""

from dataclasses import dataclass

from steerzo_edge.data.tokens import Tokens
from steerzo_edge.decoding.answer import Answer, FinishReason, Generation, Logprobs
from steerzo_edge.decoding.logprobs import TokenLogprob
from steerzo_edge.decoding.sampling import Chooser, Sampling
from steerzo_edge.model.bank import Patches
from steerzo_edge.model.base import Base


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be answered.

    Args:
        tokens: Of the prompt; not empty, and with the answer no longer than the context.
        sampling: How tokens are chosen.
        adapter: Patches of one version that nobody changes while the request lives; None is the bare base.
    """

    tokens: Tokens
    sampling: Sampling
    adapter: Patches | None = None

    @property
    def longest(self) -> int:
        """Tokens of prompt and answer, if nothing ends it early."""
        return len(self.tokens) + self.sampling.max_new_tokens


@dataclass(frozen=True, slots=True)
class Piece:
    """What a step has brought to one request.

    Args:
        ticket: As `Decoder.add` gave it.
        text: Goes on where the piece before ended; may be empty.
        tokens: How many tokens the answer has now.
        made: All of the answer, with its last piece; None before.
        logprobs: Of the text's tokens, if they were asked for.
        error: What the request failed with, which is its last piece; None if all is well.
    """

    ticket: int
    text: str
    tokens: int
    made: Generation | None = None
    logprobs: Logprobs = ()
    error: Exception | None = None


class Row:
    """A request and its answer so far; its keys and values are elsewhere, and can be made again from this.

    Args:
        ticket: Its number.
        request: What is asked.
        base: The frozen model.
    """

    def __init__(self, ticket: int, request: Request, base: Base) -> None:
        self.ticket = ticket
        self.request = request
        self.chooser = Chooser(request.sampling, base.device)
        self.answer = Answer(base.tokenizer, base.end_tokens, request.sampling)

    @property
    def so_far(self) -> Tokens:
        """The tokens of prompt and answer."""
        return (*self.request.tokens, *self.answer.tokens) if self.answer.tokens else self.request.tokens

    def put(self, token: int, logprob: TokenLogprob | None) -> Piece:
        """Takes the token that `chooser` chose."""
        self.chooser.taken()
        return self._piece(*self.answer.put(token, logprob))

    def end(self, reason: FinishReason) -> Piece:
        """Ends it; returns its last piece."""
        return self._piece(*self.answer.end(reason))

    def fail(self, error: Exception) -> Piece:
        """Its last piece, where something else than an answer came of it."""
        return Piece(self.ticket, "", len(self.answer.tokens), error=error)

    def _piece(self, text: str, logprobs: Logprobs) -> Piece:
        made = None if self.answer.reason is None else self.answer.finished(len(self.request.tokens))
        return Piece(self.ticket, text, len(self.answer.tokens), made, logprobs)
