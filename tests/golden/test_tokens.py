"""The token ids of rows, as earlier versions made them: a run that is continued must see the same tokens."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.reading import read_rows
from steerzo_edge.data.tokens import answer_tokens, prompt_tokens
from steerzo_edge.model.load import load_tokenizer
from tests.unit.format_rows import ROWS
from tests.unit.task_rows import CASES

HASHES: dict[str, str] = json.loads((Path(__file__).parent / "tokens.json").read_text())
TEXTS = ("hello", "  two  blanks\n\n", "日本 👍🏽 naïve", "a < b > c <| d |> <x>", "\t1234567890", "<", "end|>")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer()


def hashed(value: Any) -> str:
    return sha256(json.dumps(value).encode()).hexdigest()[:16]


def token_hash(dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> str:
    data = tokenize(dataset, tokenizer, 1024)
    rows = [data.learned(index) for index in range(len(data.rows))]
    options = [[list(option) for option in data.options_of(index)] for index in range(len(rows))]
    return hashed([[[list(row.tokens), list(row.counted)] for row in rows], options])


@pytest.mark.parametrize("name", [name for name in HASHES if name.startswith("task ")])
def test_benchmark_rows_keep_their_tokens(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    task = name.removeprefix("task ")
    assert token_hash(read_rows([CASES[task].row], benchmark=task), tokenizer) == HASHES[name]


@pytest.mark.parametrize("name", [name for name in HASHES if name.startswith("format ")])
def test_rows_of_every_older_format_keep_their_tokens_and_fingerprint(
    name: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    dataset = read_rows(ROWS[name.removeprefix("format ")])
    assert [token_hash(dataset, tokenizer), dataset.fingerprint[:16]] == HASHES[name].split()


def test_texts_keep_their_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    found = [[list(prompt_tokens(tokenizer, text)), list(answer_tokens(tokenizer, text))] for text in TEXTS]
    assert hashed(found) == HASHES["texts"]
