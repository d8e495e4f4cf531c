"""Texts that are learned from beginning to end; one that does not fit becomes several sequences.

{"text": "Once upon a time."}
"""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.counting import token_facts
from steerzo_edge.data.examples import Dataset, Plain
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.fitting import too_long
from steerzo_edge.data.kinds.kind import RowKind
from steerzo_edge.data.tokenization import Target, Targets
from steerzo_edge.data.tokens import Tokens, end_tokens, prompt_tokens
from steerzo_edge.errors import Fault


def _read(row: Fields) -> Plain:
    return Plain(row.text("text"))


def _tokenize(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int, labels: Sequence[str]
) -> Targets:
    rows: list[Target] = []
    faults: list[Fault] = []
    end = end_tokens(tokenizer)
    for line, example in zip(dataset.lines, dataset.examples, strict=True):
        assert isinstance(example, Plain)
        tokens = prompt_tokens(tokenizer, example.text) + end
        if len(tokens) < 2 or max_tokens < 2:
            fix = "at least 2 are needed to learn from"
            faults.append(Fault(f"line {line}", "text", f"{len(tokens)} tokens", fix))
            continue
        rows += _windows(tokens, max_tokens)
    if faults:
        raise too_long("text", faults, max_tokens)
    return Targets(tuple(rows))


def _windows(tokens: Tokens, max_tokens: int) -> list[Target]:
    """Each begins with the last token of the one before, so that every token but the first counts once."""
    found = []
    for start in range(0, len(tokens) - 1, max_tokens - 1):
        window = tokens[start : start + max_tokens]
        found.append(Target(window, (False, *[True] * (len(window) - 1))))
    return found


def _count(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> dict[str, Any]:
    data = _tokenize(dataset, tokenizer, max_tokens, ())
    return token_facts(data, max_tokens) | {"sequences": len(data.rows)}


KIND = RowKind(
    name="plain",
    fields=("text",),
    read=_read,
    tokenize=_tokenize,
    count=_count,
    only_these_fields=True,  # a misspelt `label` must not turn classes into plain text
)
