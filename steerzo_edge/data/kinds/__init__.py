"""The kinds of rows, by name.

To add one: write a file here that makes a `RowKind` and calls it KIND, and add the file's name to FILES.
"""

from collections.abc import Sequence
from importlib import import_module

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.kinds.kind import RowKind as RowKind
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.errors import DatasetError

# Where rows have some fields of several kinds and all fields of none, the first of these kinds is taken.
FILES = (
    "chat",
    "completion",
    "chat_completion",
    "classification",
    "multiple_choice",
    "alpaca",
    "sharegpt",
    "plain",
)


def _kind(file: str) -> RowKind:
    kind = import_module(f"{__name__}.{file}").KIND
    assert isinstance(kind, RowKind)
    return kind


KINDS: dict[str, RowKind] = {kind.name: kind for kind in map(_kind, FILES)}


def named_kind(name: str) -> RowKind:
    """A kind by its name.

    Raises:
        DatasetError: If no kind has this name; the hint lists them.
    """
    if name not in KINDS:
        raise DatasetError(f"there is no format {name!r}", hint=f"There are: {', '.join(KINDS)}.")
    return KINDS[name]


def tokenize(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int, labels: Sequence[str] = ()
) -> Tokenized:
    """Tokenizes every row.

    Args:
        dataset: The rows.
        tokenizer: Of the base.
        max_tokens: Longest sequence, prompt and target together.
        labels: The classes to choose from, where these rows may not show all of them; by default those that
            occur.

    Raises:
        DatasetError: Naming every row whose target alone does not fit, or is empty.
        TaskError: If the task's options do not fit the labels.
    """
    return KINDS[dataset.format].tokenize(dataset, tokenizer, max_tokens, labels or dataset.labels)
