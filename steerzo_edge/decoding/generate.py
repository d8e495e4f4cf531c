"""Generates text with the base and any adapter for one prompt, streamed: batched decoding with one row."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.examples import Chat, Message
from steerzo_edge.data.tokens import Tokens, chat_text, prompt_tokens, template_tokens
from steerzo_edge.decoding.answer import FinishReason, Generation
from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.sampling import GREEDY, Sampling
from steerzo_edge.errors import InputError, PromptTooLongError
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import Patches

__all__ = ["FinishReason", "Generation", "Prompt", "Sampling", "TokenIds", "encode_prompt", "generate"]


@dataclass(frozen=True, slots=True)
class TokenIds:
    """A prompt that is given as tokens; control tokens among them are read as such.

    Args:
        ids: At least one.
    """

    ids: Tokens


Prompt = str | TokenIds | Sequence[Message] | Chat


def generate(
    base: Base,
    prompt: Prompt,
    adapter: Patches | None = None,
    sampling: Sampling = GREEDY,
    *,
    on_text: Callable[[str], None] = lambda text: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Generation:
    """Generates the answer to a prompt or a conversation.

    Args:
        base: The frozen model.
        prompt: A text to continue, its tokens, or the turns of a conversation, perhaps with tools.
        adapter: Patches of one version; None is the bare base.
        sampling: How tokens are chosen.
        on_text: Called with each piece of the answer as soon as it can no longer change.
        cancelled: Called after every token; True ends the answer.

    Raises:
        InputError: If the prompt is empty, or a conversation does not fit the chat template.
        PromptTooLongError: If prompt and answer exceed the context.
        Exception: Whatever a decoding step failed with.
    """
    tokens = encode_prompt(base, prompt, sampling.max_new_tokens)
    decoder = Decoder(base)
    ticket = decoder.add(Request(tokens, sampling, adapter))
    while True:
        for piece in decoder.step():
            pieces = [piece]
            if piece.made is None and piece.error is None and cancelled():
                pieces.append(decoder.end(ticket, "cancelled"))
            for text in filter(None, (part.text for part in pieces)):
                on_text(text)
            if pieces[-1].error is not None:
                raise pieces[-1].error
            if pieces[-1].made is not None:
                return pieces[-1].made


def encode_prompt(
    base: Base,
    prompt: Prompt,
    max_new_tokens: int,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    length_name: str = "max_new_tokens",
) -> tuple[int, ...]:
    """Encodes a prompt and checks it against the context. Any thread may call it with its own tokenizer.

    Args:
        base: The base whose context must hold prompt and answer.
        prompt: A text to continue, its tokens, or the turns of a conversation, perhaps with tools.
        max_new_tokens: Tokens that the answer needs.
        tokenizer: A copy of the base's; by default the base's own.
        length_name: What the caller calls `max_new_tokens`, for the error.

    Raises:
        InputError: If the prompt is empty, does not fit the chat template, or has a token that the base lacks.
        PromptTooLongError: If prompt and answer exceed the context. A prompt with more characters than a context
            full of the longest token is refused before it is encoded.
    """
    tokenizer = base.tokenizer if tokenizer is None else tokenizer
    tokens = _known(base, prompt.ids) if isinstance(prompt, TokenIds) else _encoded(base, prompt, tokenizer)
    if not tokens:
        raise InputError("the prompt is empty", hint="Send at least one character.")
    if len(tokens) + max_new_tokens > base.context_length:
        length = f" and {length_name} is {max_new_tokens}" if max_new_tokens else ""
        raise PromptTooLongError(
            f"the prompt has {len(tokens)} tokens{length}; "
            f"the context of {base.name!r} holds {base.context_length}",
            hint=f"Shorten the prompt or lower {length_name}." if length else "Shorten the prompt.",
        )
    return tokens


def _encoded(base: Base, prompt: str | Sequence[Message] | Chat, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    text = prompt if isinstance(prompt, str) else _conversation_text(prompt, tokenizer)
    if len(text) > base.context_length * base.longest_token:
        raise PromptTooLongError(
            f"the prompt has {len(text):,} characters; "
            f"the context of {base.name!r} holds {base.context_length} tokens"
        )
    return prompt_tokens(tokenizer, text) if isinstance(prompt, str) else template_tokens(tokenizer, text)


def _conversation_text(prompt: Sequence[Message] | Chat, tokenizer: PreTrainedTokenizerBase) -> str:
    chat = prompt if isinstance(prompt, Chat) else Chat(tuple(prompt))
    tools = json.loads(chat.tools) if chat.tools else ()
    return chat_text(tokenizer, chat.messages, answer_next=True, tools=tools)


def _known(base: Base, ids: Tokens) -> Tokens:
    known = min(base.vocabulary, base.head.vocabulary)
    unknown = next((token for token in ids if not 0 <= token < known), None)
    if unknown is not None:
        raise InputError(
            f"token {unknown} is not one of {base.name!r}, which has {known:,}",
            hint="Encode the prompt with the base's own tokenizer, or send it as text.",
        )
    return ids
