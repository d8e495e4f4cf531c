"""Log-probabilities in OpenAI's objects, which /generate uses too."""

from collections.abc import Sequence

from pydantic import Field

from steerzo_edge.config import Config
from steerzo_edge.decoding.logprobs import Likely, TokenLogprob
from steerzo_edge.decoding.spelling import Spelling

# OpenAI's value for minus infinity, which JSON cannot express.
LEAST = -9999.0


class TokenChance(Config):
    """A token and its log-probability."""

    token: str = Field(description="Its text; part of a character is shown as a replacement character.")
    logprob: float = Field(
        description="In nats; of the model's own distribution, before temperature, top_p and top_k."
    )
    bytes: list[int] = Field(description="Its bytes in UTF-8.")


class TokenLogprobs(TokenChance):
    """A token of an answer, and the likeliest tokens in its place."""

    top_logprobs: list[TokenChance] = Field(description="As many as requested, the likeliest first.")


class ChatLogprobs(Config):
    """The log-probabilities of a chat completion, or of a piece of it."""

    content: list[TokenLogprobs]
    refusal: None = None


class TextLogprobs(Config):
    """The log-probabilities of a text completion, or of a piece of it; each list has one item per token."""

    tokens: list[str]
    token_logprobs: list[float | None] = Field(description="Null for the first token of an echoed prompt.")
    top_logprobs: list[dict[str, float] | None] | None = Field(description="Always includes the chosen token.")
    text_offset: list[int] = Field(description="Position of each token in the text, in characters.")

    def after(self, earlier: "TextLogprobs", characters: int) -> "TextLogprobs":
        """These after others.

        Args:
            earlier: Of the text before.
            characters: Length of the text before.
        """
        tops = None if self.top_logprobs is None else [*(earlier.top_logprobs or ()), *self.top_logprobs]
        return TextLogprobs(
            tokens=earlier.tokens + self.tokens,
            token_logprobs=earlier.token_logprobs + self.token_logprobs,
            top_logprobs=tops,
            text_offset=earlier.text_offset + [offset + characters for offset in self.text_offset],
        )


def of_tokens(spelling: Spelling, logprobs: Sequence[TokenLogprob]) -> list[TokenLogprobs]:
    """Log-probabilities as /generate and chat completions show them.

    Args:
        spelling: The text of the base's tokens.
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
    """Log-probabilities as text completions show them.

    Args:
        spelling: The text of the base's tokens.
        logprobs: Those of an answer, or of a piece of it.
        likeliest: How many of the likeliest tokens were requested.
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


def of_prompt(spelling: Spelling, first: int, logprobs: Sequence[TokenLogprob], likeliest: int) -> TextLogprobs:
    """Log-probabilities of an echoed prompt.

    Args:
        spelling: The text of the base's tokens.
        first: Its first token, which has no log-probability.
        logprobs: Those of the tokens after it.
        likeliest: As in `of_texts`.
    """
    unscored = TextLogprobs(
        tokens=[_key(spelling, first)],
        token_logprobs=[None],
        top_logprobs=[None] if likeliest else None,
        text_offset=[0],
    )
    return of_texts(spelling, logprobs, likeliest).after(unscored, 0)


def _chance(spelling: Spelling, likely: Likely) -> TokenChance:
    spelled = spelling.bytes(likely.token)
    return TokenChance(
        token=spelled.decode(errors="replace"), logprob=max(likely.logprob, LEAST), bytes=list(spelled)
    )


def _key(spelling: Spelling, token: int) -> str:
    """A token's text; its bytes if it is part of a character, so that no two tokens get the same key."""
    spelled = spelling.bytes(token)
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)
