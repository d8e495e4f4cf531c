"""Rows of every format, written as JSON lines and as Parquet, and the faults of reading them."""

import io
import json
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from steerzo_edge.data.reading import read_dataset
from steerzo_edge.errors import DatasetError

TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
ANSWER = {"role": "assistant", "content": "So."}
SHARED = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "Why?"},
    {"from": "gpt", "value": "So."},
]
ROWS: dict[str, list[dict[str, Any]]] = {
    "chat": [{"messages": [*TURNS, ANSWER]}, {"messages": [TURNS[1], ANSWER]}],
    "sharegpt": [{"conversations": SHARED}, {"conversations": SHARED[1:]}],
    "completion": [{"prompt": "a", "completion": "b"}, {"prompt": "ä\n", "completion": "c, d"}],
    "chat-completion": [
        {"prompt": TURNS, "completion": [ANSWER]},
        {"prompt": [TURNS[1], ANSWER, TURNS[1]], "completion": [ANSWER]},
    ],
    "alpaca": [
        {"instruction": "Add.", "input": "1 {input} 2", "output": "3"},
        {"instruction": "Say {input}.", "input": "", "output": "hi"},
    ],
    "classification": [{"text": "good", "label": "x"}, {"text": "bad", "label": "y"}],
    "multiple-choice": [{"prompt": "The sky is", "choices": ["blue", "red"], "answer": 0}] * 2,
    "plain": [{"text": "Once upon a time."}, {"text": "The end\nof it."}],
}


def parquet_bytes(rows: list[dict[str, Any]], **options: Any) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), buffer, **options)
    return buffer.getvalue()


def lines(rows: list[Any]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def faults_of(data: bytes, **options: Any) -> list[tuple[str, str]]:
    with pytest.raises(DatasetError) as caught:
        read_dataset(data, **options)
    assert all(fault.found and fault.fix for fault in caught.value.faults)
    return [(fault.where, fault.field) for fault in caught.value.faults]
