"""Conversations as ShareGPT's were published; they are read as the turns of `chat.py`.

{"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}
"""

from dataclasses import replace

from steerzo_edge.data.examples import Chat
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.kinds import chat
from steerzo_edge.data.kinds.kind import RowKind
from steerzo_edge.data.turns import ROLES, Turns, conversation

_TURNS = Turns("conversations", "from", "value", {**ROLES, "human": "user", "gpt": "assistant"})


def _read(row: Fields) -> Chat:
    return conversation(_TURNS, row)


KIND: RowKind = replace(chat.KIND, name="sharegpt", fields=("conversations",), read=_read)
