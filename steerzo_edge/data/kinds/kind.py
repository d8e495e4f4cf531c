"""What a kind of rows is.

    row  --read-->  Example  --tokenize-->  Targets | Choices | Questions  --collate-->  a batch

A kind defines the first two arrows. Batches and previews are made from the tokenized form, so they need nothing
more. Optional: `count` adds facts to the statistics of a dataset, `asking` makes in-context learning possible. A
kind whose rows are converted to examples of another one starts from that kind: see `alpaca.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.examples import Dataset, Example
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.meanings import EVERYWHERE
from steerzo_edge.data.task import Task
from steerzo_edge.data.tokenization import Tokenized


@dataclass(frozen=True, slots=True)
class Asked:
    """An example as text.

    Args:
        prompt: The question.
        continuations: All texts that may follow the prompt.
        right: The one that should.
    """

    prompt: str
    continuations: tuple[str, ...]
    right: str


@dataclass(frozen=True, slots=True)
class Asking:
    """How the examples of a kind ask a question; needed to put solved examples before it (in-context learning).

    Args:
        asked: An example, the task of its dataset, and the text that follows the prompt for each label, to an
            example as text.
        with_prompt: An example, its new prompt, and the task, to the example that asks with this prompt.
    """

    asked: Callable[[Example, Task | None, Mapping[str, str]], Asked]
    with_prompt: Callable[[Example, str, Task | None], Example]


@dataclass(frozen=True, slots=True)
class RowKind:
    """A kind of rows.

    Args:
        name: As users write it (`format=NAME`) and as statistics give it.
        fields: What every row has; rows are recognized by them.
        read: A row to its example. Faults go to the fields; the example of a faulty row is thrown away.
        tokenize: A dataset, the tokenizer, the longest sequence, and the labels to choose from, to token ids.
        count: A dataset, the tokenizer and the longest sequence to facts for people, JSON-ready; None counts
            tokens alone.
        asking: How the examples ask a question; None if they ask none.
        only_these_fields: Whether rows with any other field are of another kind.
        takes_task: Whether a `Task` says how the rows are put to the model.
        hints: By field, what to do if every faulty row of a recognized file lacks exactly this field.
        refused: Fields that mean something in published formats and cannot be honoured, and what to do instead.
        lists: True if all these fields hold lists, False if none does, where that tells the kind from another one
            with the same fields; None if it does not matter.
        warn: A dataset to sentences about rows that are valid but probably mistakes; None for none.
    """

    name: str
    fields: tuple[str, ...]
    read: Callable[[Fields], Example]
    tokenize: Callable[[Dataset, PreTrainedTokenizerBase, int, Sequence[str]], Tokenized]
    count: Callable[[Dataset, PreTrainedTokenizerBase, int], dict[str, Any]] | None = None
    asking: Asking | None = None
    only_these_fields: bool = False
    takes_task: bool = False
    hints: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=lambda: EVERYWHERE)
    lists: bool | None = None
    warn: Callable[[Dataset], Sequence[str]] | None = None
