"""Conversations: the assistant's turns are learned, in the base's own chat template.

{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}

An assistant's turn with `weight` 0 is read, not learned. `tools`, `tool_calls` and the results of tools go through
the base's chat template too; a template that leaves them out is an error.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.conversation import conversation_runs
from steerzo_edge.data.examples import Chat, Dataset
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.fitting import fitted_targets
from steerzo_edge.data.kinds.kind import RowKind
from steerzo_edge.data.meanings import CONVERSATIONS
from steerzo_edge.data.tokenization import Targets
from steerzo_edge.data.tokens import check_chat_template
from steerzo_edge.data.turns import as_openai, conversation

_TURNS = as_openai("messages")


def _read(row: Fields) -> Chat:
    return conversation(_TURNS, row)


def _tokenize(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int, labels: Sequence[str]
) -> Targets:
    check_chat_template(tokenizer)
    return fitted_targets(dataset, lambda example: conversation_runs(example, tokenizer), max_tokens)


KIND = RowKind(name="chat", fields=("messages",), read=_read, tokenize=_tokenize, refused=CONVERSATIONS)
