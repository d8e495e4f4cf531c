"""A conversation cut in two: the turns of the prompt are read, the assistant's turns of the completion are learned.

{"prompt": [{"role": "user", "content": "Why?"}], "completion": [{"role": "assistant", "content": "So."}]}
"""

from dataclasses import replace

from steerzo_edge.data.examples import Chat
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.kinds import chat
from steerzo_edge.data.kinds.kind import RowKind
from steerzo_edge.data.turns import as_openai, conversation_of_parts

_PROMPT, _COMPLETION = as_openai("prompt"), as_openai("completion")


def _read(row: Fields) -> Chat:
    return conversation_of_parts(_PROMPT, _COMPLETION, row)


KIND: RowKind = replace(chat.KIND, name="chat-completion", fields=("prompt", "completion"), read=_read, lists=True)
