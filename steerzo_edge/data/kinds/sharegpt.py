"""Conversations as ShareGPT's were published; they are read as the turns of `chat.py`.

{"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}
"""

from dataclasses import replace

from steerzo_edge.data.examples import Chat
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.kinds import chat
from steerzo_edge.data.kinds.kind import RowKind

_TURNS = chat.Turns(
    "conversations",
    "from",
    "value",
    {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"},
)


def _read(row: Fields) -> Chat:
    return chat.read_turns(_TURNS, row)


KIND: RowKind = replace(chat.KIND, name="sharegpt", fields=("conversations",), read=_read)
