"""The prompts of text completions: a text or its tokens, or a list of either."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from steerzo_edge.decoding.generate import Prompt, TokenIds

# Most prompts of a request. Scored ones are computed one forward after another, whole answers some at a time.
MOST_PROMPTS = 256
_Text = Annotated[str, Field(min_length=1, max_length=1 << 24)]
_Token = Annotated[int, Field(ge=0, lt=1 << 31, strict=True)]
_Tokens = Annotated[list[_Token], Field(min_length=1, max_length=1 << 20)]
_TEXT, _TEXTS, _TOKENS, _TOKEN_LISTS = "a text", "a list of texts", "a list of tokens", "lists of tokens"


def _form(value: Any) -> str:
    """Which form a prompt has, by the value or its first item, so that an error speaks of that form alone."""
    if not isinstance(value, list):
        return _TEXT
    first = value[0] if value else ""
    if isinstance(first, list):
        return _TOKEN_LISTS
    return _TOKENS if isinstance(first, int) and not isinstance(first, bool) else _TEXTS


Prompts = Annotated[
    Annotated[_Text, Tag(_TEXT)]
    | Annotated[list[_Text], Field(min_length=1, max_length=MOST_PROMPTS), Tag(_TEXTS)]
    | Annotated[_Tokens, Tag(_TOKENS)]
    | Annotated[list[_Tokens], Field(min_length=1, max_length=MOST_PROMPTS), Tag(_TOKEN_LISTS)],
    Discriminator(_form),
]


def prompts_of(value: str | list[str] | list[int] | list[list[int]]) -> list[Prompt]:
    """A request's prompts, one by one; a list of tokens is one prompt."""
    if isinstance(value, str):
        return [value]
    if isinstance(value[0], int):
        return [TokenIds(tuple(value))]
    return [part if isinstance(part, str) else TokenIds(tuple(part)) for part in value]
