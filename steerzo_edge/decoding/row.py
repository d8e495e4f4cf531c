"""A request in the decoder: its settings, the pieces that steps produce, and its state between two steps."""

from dataclasses import dataclass

from steerzo_edge.data.tokens import Tokens
from steerzo_edge.decoding.answer import FinishReason, Generation, Logprobs, PartialAnswer
from steerzo_edge.decoding.grammar import matcher_of
from steerzo_edge.decoding.logprobs import TokenLogprob
from steerzo_edge.decoding.sampling import Chooser, Sampling
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import Patches


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and how it is answered.

    Args:
        tokens: The prompt's tokens; not empty, and together with the answer no longer than the context.
        sampling: How tokens are chosen.
        adapter: Patches of one version, which must not change until the request ends; None is the bare base.
    """

    tokens: Tokens
    sampling: Sampling
    adapter: Patches | None = None

    @property
    def longest(self) -> int:
        """Most tokens of prompt and answer together."""
        return len(self.tokens) + self.sampling.max_new_tokens


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step produced for one request.

    Args:
        ticket: The number that `Decoder.add` returned for the request.
        text: Continues the text of the piece before; may be empty.
        tokens: How many tokens the answer has now.
        made: The whole answer, in its last piece; None in earlier ones.
        logprobs: Log-probabilities of the text's tokens, if requested.
        error: The exception that ended the request, in its last piece; None otherwise.
    """

    ticket: int
    text: str
    tokens: int
    made: Generation | None = None
    logprobs: Logprobs = ()
    error: Exception | None = None


class Row:
    """A request and its answer so far; its keys and values are kept elsewhere and can be computed again from it.

    Args:
        ticket: The number of the request.
        request: The prompt, and how it is answered.
        base: The frozen model.
    """

    def __init__(self, ticket: int, request: Request, base: Base) -> None:
        self.ticket = ticket
        self.request = request
        self.chooser = Chooser(request.sampling, base.device, matcher_of(base, request.sampling.form))
        self.answer = PartialAnswer(base.tokenizer, base.end_tokens, request.sampling)

    @property
    def so_far(self) -> Tokens:
        """The tokens of the prompt, and of the answer so far."""
        return (*self.request.tokens, *self.answer.tokens) if self.answer.tokens else self.request.tokens

    def put(self, token: int, logprob: TokenLogprob | None) -> Piece:
        """Appends the token that `chooser` chose; returns the piece of this step."""
        self.chooser.taken(token)
        return self._piece(*self.answer.put(token, logprob, is_complete=self.chooser.is_complete))

    def end(self, reason: FinishReason) -> Piece:
        """Ends the answer; returns its last piece."""
        return self._piece(*self.answer.end(reason))

    def fail(self, error: Exception) -> Piece:
        """The last piece of a request that an error ended."""
        return Piece(self.ticket, "", len(self.answer.tokens), error=error)

    def _piece(self, text: str, logprobs: Logprobs) -> Piece:
        made = None if self.answer.reason is None else self.answer.finished(len(self.request.tokens))
        return Piece(self.ticket, text, len(self.answer.tokens), made, logprobs)
