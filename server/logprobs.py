"""Log-probabilities as clients get them: OpenAI's objects, of /generate too."""

from collections.abc import Sequence

from pydantic import Field

from steerzo_edge.config import Config
from steerzo_edge.decoding.logprobs import Likely, TokenLogprob
from steerzo_edge.decoding.spelling import Spelling

# What JSON has for minus infinity, as OpenAI writes it.
LEAST = -9999.0


class TokenChance(Config):
    """A token and how likely it was."""

    token: str = Field(description="Its text; where it is a part of a character, a mark stands for it.")
    logprob: float = Field(description="In nats; of the model's own distribution, before temperature and the like.")
    bytes: list[int] = Field(description="What it stands for, in UTF-8.")


class TokenLogprobs(TokenChance):
    """A token of an answer, and what could have stood in its place."""

    top_logprobs: list[TokenChance] = Field(description="As many as were asked for, the likeliest first.")


class ChatLogprobs(Config):
    """Those of a conversation's answer, or of a piece of it."""

    content: list[TokenLogprobs]
    refusal: None = None


class TextLogprobs(Config):
    """Those of a text's answer, or of a piece of it; a list for each thing, with an item for each token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None = Field(description="The chosen token is always among them.")
    text_offset: list[int] = Field(description="Where each token begins in the answer's text, in characters.")


def of_tokens(spelling: Spelling, logprobs: Sequence[TokenLogprob]) -> list[TokenLogprobs]:
    """As /generate and conversations show them.

    Args:
        spelling: Of the base's tokens.
        logprobs: Those of an answer, or of a piece of it.
    """
    return [
        TokenLogprobs(
            **_chance(spelling, one.chosen).model_dump(),
            top_logprobs=[_chance(spelling, other) for other in one.likeliest],
        )
        for one in logprobs
    ]


def of_texts(spelling: Spelling, logprobs: Sequence[TokenLogprob], likeliest: int) -> TextLogprobs:
    """As completions show them.

    Args:
        spelling: Of the base's tokens.
        logprobs: Those of an answer, or of a piece of it.
        likeliest: How many of the likeliest were asked for.
    """
    tops = [
        {_key(spelling, other.token): max(other.logprob, LEAST) for other in (*one.likeliest, one.chosen)}
        for one in logprobs
    ]
    return TextLogprobs(
        tokens=[_key(spelling, one.chosen.token) for one in logprobs],
        token_logprobs=[max(one.chosen.logprob, LEAST) for one in logprobs],
        top_logprobs=tops if likeliest else None,
        text_offset=[one.offset for one in logprobs],
    )


def _chance(spelling: Spelling, likely: Likely) -> TokenChance:
    spelled = spelling.bytes(likely.token)
    return TokenChance(
        token=spelled.decode(errors="replace"), logprob=max(likely.logprob, LEAST), bytes=list(spelled)
    )


def _key(spelling: Spelling, token: int) -> str:
    """A token's text; parts of characters by their bytes, so that no two are called the same."""
    spelled = spelling.bytes(token)
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)
