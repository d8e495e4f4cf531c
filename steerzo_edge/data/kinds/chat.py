"""Conversations: the assistant's turns are learned, in the base's own chat template.

{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.examples import Chat, Dataset, Example, Message
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.fitting import Runs, fitted_targets
from steerzo_edge.data.kinds.kind import RowKind
from steerzo_edge.data.rows import shown
from steerzo_edge.data.tokenization import Targets
from steerzo_edge.data.tokens import Tokens, answer_tokens, chat_text, end_tokens

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Turns:
    """How a conversation is written.

    Args:
        field: The row's field that lists the turns.
        role: The turn's field that names the speaker.
        content: The turn's field that holds the text.
        roles: Each name a speaker may have, and the role it stands for.
    """

    field: str
    role: str
    content: str
    roles: Mapping[str, Role]


def read_turns(turns: Turns, row: Fields) -> Chat:
    """The conversation of a row; faults go to the row's fields."""
    shape = f'{{"{turns.role}", "{turns.content}"}}'
    read = [_message(turns, turn) for turn in row.each(turns.field, shape=shape)]
    messages = tuple(message for message in read if message is not None)
    written = row.value(turns.field)
    if isinstance(written, list) and len(messages) == len(written) > 0 and messages[-1].role != "assistant":
        found = f"last {turns.role} {shown(written[-1][turns.role])}"
        row.refuse(turns.field, "end with the assistant's answer", found)
    return Chat(messages)


def _message(turns: Turns, turn: Fields) -> Message | None:
    role = turn.value(turns.role)
    if not isinstance(role, str) or role not in turns.roles:
        turn.refuse(turns.role, f"it must be one of {', '.join(turns.roles)}")
        return None
    content = turn.text(turns.content)
    return Message(turns.roles[role], content) if content else None


def _read(row: Fields) -> Chat:
    return read_turns(_TURNS, row)


def _tokenize(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int, labels: Sequence[str]
) -> Targets:
    return fitted_targets(dataset, lambda example: _runs(example, tokenizer), max_tokens)


def _runs(example: Example, tokenizer: PreTrainedTokenizerBase) -> Runs:
    """A conversation as what is read and what the assistant says, in turn."""
    assert isinstance(example, Chat)
    runs: list[tuple[Tokens, bool]] = []
    written = ""
    for index, message in enumerate(example.messages):
        if message.role != "assistant":
            continue
        before = chat_text(tokenizer, example.messages[:index], answer_next=True)
        after = chat_text(tokenizer, example.messages[: index + 1], answer_next=False)
        if not (before.startswith(written) and after.startswith(before)):
            return _last_answer(example, tokenizer)
        runs.append((answer_tokens(tokenizer, before[len(written) :]), False))
        runs.append((answer_tokens(tokenizer, after[len(before) :]), True))
        written = after
    return Runs(runs)


def _last_answer(example: Chat, tokenizer: PreTrainedTokenizerBase) -> Runs:
    """For templates that rewrite earlier turns, so that a text cannot be cut at each turn: one target."""
    *_, last = example.messages
    before = answer_tokens(tokenizer, chat_text(tokenizer, example.messages[:-1], answer_next=True))
    return Runs([(before, False), (answer_tokens(tokenizer, last.content) + end_tokens(tokenizer), True)])


_TURNS = Turns("messages", "role", "content", {"system": "system", "user": "user", "assistant": "assistant"})
KIND = RowKind(name="chat", fields=("messages",), read=_read, tokenize=_tokenize)
