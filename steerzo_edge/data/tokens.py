"""Text to token ids: prompts, answers, and conversations in the tokenizer's own template."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.examples import Message
from steerzo_edge.errors import InputError

Tokens = tuple[int, ...]


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> Tokens:
    """A prompt's tokens, with the special tokens that the tokenizer puts at the start of a text."""
    return tuple(tokenizer(text).input_ids)


def answer_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> Tokens:
    """The tokens of a text that continues another one: no special tokens are added."""
    return tuple(tokenizer(text, add_special_tokens=False).input_ids)


def end_tokens(tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """The token that ends an answer, or nothing if the tokenizer has none."""
    return () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)


def chat_text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, answer_next: bool) -> str:
    """A conversation in the tokenizer's own chat template.

    Args:
        tokenizer: Of the base.
        messages: The turns so far.
        answer_next: Whether to end with the template's opening of the assistant's next turn.

    Raises:
        InputError: If the base has no chat template, or the template rejects these turns.
    """
    if not tokenizer.chat_template:
        raise InputError(
            "this base model has no chat template",
            hint="Use prompt/completion rows, or a base that was trained on conversations.",
        )
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer_next)
    except Exception as error:  # templates raise errors of any class, TemplateError among them
        raise InputError(f"the chat template refuses these messages: {error}") from error
    return str(text)
