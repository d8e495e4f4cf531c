"""A conversation as what is read and what is learned, in the base's own chat template."""

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.control_tokens import control_tokens, unmarked
from steerzo_edge.data.examples import Chat, Example, Message
from steerzo_edge.data.fitting import Runs
from steerzo_edge.data.tokens import Tokens, answer_tokens, chat_text, end_tokens, template_tokens
from steerzo_edge.errors import InputError

# Digits alone, which templates leave as they are; no text has them by chance or by intention.
_SECRET: Final = str(secrets.randbelow(9 * 10**15) + 10**15)
# Turns that are looked at one by one; others than the first few are written as these are.
_MOST_ALONE: Final = 50
_NUMBER: Final = re.compile(_SECRET + "[0-9]{6,}")


def conversation_runs(example: Example, tokenizer: PreTrainedTokenizerBase) -> Runs:
    """What is read and what is learned, in turn, up to the last answer that is learned.

    Raises:
        InputError: If the template rejects the conversation, or leaves out a part of it.
    """
    assert isinstance(example, Chat)
    return _Conversation(example, tokenizer).runs()


def check_nothing_is_left_out(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Sequence[object]
) -> None:
    """Checks that the chat template writes all of a conversation that is not the assistant's own text.

    Args:
        tokenizer: Of the base.
        messages: The turns.
        tools: The tools that the assistant may call, as chat templates take them.

    Raises:
        InputError: If a part is left out, as `what_is_left_out` says; or if the template rejects the conversation.
    """
    what = what_is_left_out(tokenizer, messages, tools)
    if what is not None:
        raise InputError(f"the base's chat template leaves out {what}")


def what_is_left_out(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Sequence[object]
) -> str | None:
    """What the chat template does not write of a conversation: its text is the same without it. None for nothing.

    Looked at are the tools, each turn with calls, and each text that is read. One more rendering, in which all
    doubtful turns have numbers, shows most of them. Turns whose numbers are missing there are looked at one by one,
    up to a limit, as each needs the whole conversation again.

    Args:
        tokenizer: Of the base.
        messages: The turns.
        tools: The tools that the assistant may call, as chat templates take them.

    Raises:
        InputError: If the template rejects the conversation.
    """
    text = chat_text(tokenizer, messages, answer_next=False, tools=tools)
    if tools and chat_text(tokenizer, messages, answer_next=False) == text:
        return "the tools"
    written = unmarked(text)
    doubtful = _doubtful(messages, written)
    if not doubtful:
        return None
    numbered = [_numbered(one, index) if index in doubtful else one for index, one in enumerate(messages)]
    found = set(_NUMBER.findall(unmarked(_text_or_none(tokenizer, numbered, tools) or "")))
    alone = (
        index
        for index in sorted(doubtful)
        if _number(index) not in found
        and (messages[index].role == "assistant" or messages[index].content.strip() not in written)
    )
    for index in islice(alone, _MOST_ALONE):
        message = messages[index]
        is_call = message.role == "assistant"
        changed = replace(message, details="") if is_call else _numbered(message, index)
        if _text_or_none(tokenizer, (*messages[:index], changed, *messages[index + 1 :]), tools) == text:
            return "calls of tools" if is_call else f"what the {message.role} says"
    return None


def _doubtful(messages: Sequence[Message], written: str) -> set[int]:
    """The turns with calls, and those that are read and not found in the text in their order.

    After one that is not found all others are doubtful: to look for each in a long text would take long.
    """
    doubtful, place = set(), 0
    for index, message in enumerate(messages):
        if message.role == "assistant":
            is_doubtful = bool(message.details)
        else:
            place = written.find(message.content.strip(), place) if place >= 0 else place
            is_doubtful = place < 0
        if is_doubtful:
            doubtful.add(index)
    return doubtful


def _number(index: int) -> str:
    return f"{_SECRET}{index:06}"


def _numbered(message: Message, index: int) -> Message:
    """A turn with a number in its text, or in the names of the functions it calls."""
    if message.role != "assistant":
        return replace(message, content=f"{message.content} {_number(index)}")
    details = json.loads(message.details)
    for call in details.get("tool_calls", []):
        call["function"]["name"] = f"f{_number(index)}"
    return replace(message, details=json.dumps(details, ensure_ascii=False))


def _text_or_none(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Sequence[object]
) -> str | None:
    """A conversation's text; None if the template refuses it, so that it does look at what was changed."""
    try:
        return chat_text(tokenizer, messages, answer_next=False, tools=tools)
    except InputError:
        return None


class _Conversation:
    def __init__(self, chat: Chat, tokenizer: PreTrainedTokenizerBase) -> None:
        end = max(index for index, one in enumerate(chat.messages) if one.role == "assistant" and one.learned)
        self._messages = chat.messages[: end + 1]
        self._tools = json.loads(chat.tools) if chat.tools else []
        self._tokenizer = tokenizer

    def runs(self) -> Runs:
        check_nothing_is_left_out(self._tokenizer, self._messages, self._tools)
        runs: list[tuple[Tokens, bool]] = []
        written = ""
        for index, message in enumerate(self._messages):
            if message.role != "assistant":
                continue
            after = self._text(self._messages[: index + 1])
            before = self._opening(index, after)
            if not (before.startswith(written) and after.startswith(before)):
                return self._last_answer()
            runs.append((self._tokens(before[len(written) :]), False))
            runs.append((self._tokens(after[len(before) :]), message.learned))
            written = after
        return Runs(runs)

    def _last_answer(self) -> Runs:
        """For templates that rewrite earlier turns, so that a text cannot be cut at each turn: one target."""
        *_, last = self._messages
        before = self._opening(len(self._messages) - 1, None)
        learned = answer_tokens(self._tokenizer, last.content) + end_tokens(self._tokenizer)
        if last.details:
            after = self._text(self._messages)
            if not after.startswith(before):
                raise InputError("the chat template changes what is before a call of a tool when the call is added")
            learned = self._tokens(after[len(before) :])
        others = sum(one.role == "assistant" and one.learned for one in self._messages) > 1
        return Runs([(self._tokens(before), False), (learned, True)], only_last=others)

    def _opening(self, index: int, after: str | None) -> str:
        """The text before an answer; `after` is the text up to its end, if that is known."""
        if index:
            return self._text(self._messages[:index], answer_next=True)
        # Many templates take no empty conversation, and some write something else before their first turn.
        try:
            before = self._text((), answer_next=True)
        except InputError:
            before = None
        after = self._text(self._messages[:1]) if after is None else after
        if before is not None and after.startswith(before):
            return before
        content = str(control_tokens(self._tokenizer).marked(self._messages[0].content)).strip()
        if not content or after.count(content) != 1:
            raise InputError(
                "the chat template does not show where the answer begins that the conversation begins with"
            )
        return after[: after.index(content)]

    def _text(self, messages: Sequence[Message], *, answer_next: bool = False) -> str:
        return chat_text(self._tokenizer, messages, answer_next=answer_next, tools=self._tools)

    def _tokens(self, text: str) -> Tokens:
        return template_tokens(self._tokenizer, text)
