"""A conversation as what is read and what is learned, in the base's own chat template."""

import json
from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.control_tokens import control_tokens
from steerzo_edge.data.examples import Chat, Example, Message
from steerzo_edge.data.fitting import Runs
from steerzo_edge.data.tokens import Tokens, answer_tokens, chat_text, end_tokens, template_tokens
from steerzo_edge.errors import InputError


def conversation_runs(example: Example, tokenizer: PreTrainedTokenizerBase) -> Runs:
    """What is read and what is learned, in turn, up to the last answer that is learned.

    Raises:
        InputError: If the template rejects the conversation, or leaves out a part of it.
    """
    assert isinstance(example, Chat)
    return _Conversation(example, tokenizer).runs()


class _Conversation:
    def __init__(self, chat: Chat, tokenizer: PreTrainedTokenizerBase) -> None:
        end = max(index for index, one in enumerate(chat.messages) if one.role == "assistant" and one.learned)
        self._messages = chat.messages[: end + 1]
        self._tools = json.loads(chat.tools) if chat.tools else []
        self._tokenizer = tokenizer

    def runs(self) -> Runs:
        self._check_nothing_is_left_out()
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

    def _check_nothing_is_left_out(self) -> None:
        """Raises InputError if the text is the same without tools, a call, or the text of a turn that is read."""
        text = self._text(self._messages)
        if self._tools and self._text(self._messages, tools=()) == text:
            raise InputError("the base's chat template leaves out the tools")
        for index, message in enumerate(self._messages):
            if message.role == "assistant" and message.details:
                self._check_matters(text, index, replace(message, details=""), "calls of tools")
            elif message.role != "assistant" and message.content.strip() not in text:
                changed = replace(message, content=f"{message.content} changed")
                self._check_matters(text, index, changed, f"what the {message.role} says")

    def _check_matters(self, text: str, index: int, changed: Message, what: str) -> None:
        messages = (*self._messages[:index], changed, *self._messages[index + 1 :])
        try:
            other = self._text(messages)
        except InputError:
            return  # so the template does look at it
        if other == text:
            raise InputError(f"the base's chat template leaves out {what}")

    def _text(
        self, messages: Sequence[Message], *, answer_next: bool = False, tools: Sequence[object] | None = None
    ) -> str:
        offered = self._tools if tools is None else tools
        return chat_text(self._tokenizer, messages, answer_next=answer_next, tools=offered)

    def _tokens(self, text: str) -> Tokens:
        return template_tokens(self._tokenizer, text)
