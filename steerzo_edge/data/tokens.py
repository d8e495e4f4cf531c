"""Text to token ids: prompts, answers, and conversations in the tokenizer's own template."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.control_tokens import are_read, control_tokens, has_marks, unmarked
from steerzo_edge.data.examples import Message
from steerzo_edge.errors import InputError

Tokens = tuple[int, ...]


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> Tokens:
    """A prompt's tokens, with the special tokens that the tokenizer puts at the start of a text."""
    return _tokens(tokenizer, text, frame=True)


def answer_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> Tokens:
    """The tokens of a text that continues another one: no special tokens are added."""
    return _tokens(tokenizer, text, frame=False)


def template_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> Tokens:
    """The tokens of what `chat_text` gave, or of a part of it: the template's control tokens are read as such."""
    if has_marks(text):
        return tuple(control_tokens(tokenizer).rendered(text))
    return tuple(tokenizer(text, add_special_tokens=False).input_ids)


def end_tokens(tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """The token that ends an answer, or nothing if the tokenizer has none."""
    return () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)


def check_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises InputError if a base has no chat template."""
    if not tokenizer.chat_template:
        raise InputError(
            "this base model has no chat template",
            hint="Use prompt/completion rows, or a base that was trained on conversations.",
        )


def chat_text(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    answer_next: bool,
    tools: Sequence[Any] = (),
) -> str:
    """A conversation in the tokenizer's own chat template.

    Args:
        tokenizer: Of the base.
        messages: The turns so far.
        answer_next: Whether to end with the template's opening of the assistant's next turn.
        tools: The tools that the assistant may call, as chat templates take them.

    Returns:
        A text for `template_tokens`: where a message spells a control token, it has a mark instead.

    Raises:
        InputError: If the base has no chat template, or the template rejects these turns.
    """
    check_chat_template(tokenizer)
    written: dict[str, Any] = {"turns": [message.turn() for message in messages], "tools": list(tools)}
    plain = _rendered(tokenizer, written, answer_next=answer_next)
    if are_read(tokenizer):
        return plain
    safe = marked_conversation(tokenizer, written)
    if safe == written:
        return plain
    text = _rendered(tokenizer, safe, answer_next=answer_next)
    if unmarked(text) != plain:
        raise InputError(
            "the chat template treats a text differently because it spells a control token",
            hint="Leave the control token out of the text, or allow control tokens in texts.",
        )
    return text


def marked_conversation(tokenizer: PreTrainedTokenizerBase, written: dict[str, Any]) -> dict[str, Any]:
    """Turns and tools with marks in all their texts; roles stay as they are."""
    marked = control_tokens(tokenizer).marked
    turns = [
        {key: value if key == "role" else marked(value) for key, value in turn.items()} for turn in written["turns"]
    ]
    return {"turns": turns, "tools": marked(written["tools"])}


def _rendered(tokenizer: PreTrainedTokenizerBase, written: dict[str, Any], *, answer_next: bool) -> str:
    try:
        text = tokenizer.apply_chat_template(
            written["turns"], tools=written["tools"] or None, tokenize=False, add_generation_prompt=answer_next
        )
    except Exception as error:  # templates raise errors of any class, TemplateError among them
        raise InputError(f"the chat template refuses these messages: {unmarked(str(error))}") from error
    return str(text)


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str, *, frame: bool) -> Tokens:
    tokens: list[int] = tokenizer(text, add_special_tokens=frame).input_ids
    if are_read(tokenizer):
        return tuple(tokens)
    control = control_tokens(tokenizer)
    return tuple(control.as_text(text, frame=frame) if control.came_out(tokens, frame=frame) else tokens)
