"""Any bytes are read, or refused with a place: made up, and made from real files by flipping, cutting, splicing.

STEERZO_FUZZ=20 tries twenty times as many.
"""

import csv
import io
import json
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pyarrow import parquet

from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.formats import FIELDS
from steerzo_edge.data.reading import read_dataset, read_rows
from steerzo_edge.data.statistics import statistics
from steerzo_edge.data.tasks import TASKS
from steerzo_edge.errors import InputError
from tests.conftest import byte_tokenizer
from tests.properties.tries import tried

ROOT = Path(__file__).parent.parent.parent
REAL = Path(os.environ.get("STEERZO_BENCH_DATA", ROOT.parent / "shared" / "data"))
TOKENIZER = byte_tokenizer()
NAME = "upload.bin"
PIECE_BYTES = 4000


def outcome(data: bytes, name: str = NAME, **options: Any) -> Dataset | InputError:
    """What reading gives; whatever is read can also be counted, hashed and written again."""
    try:
        found = read_dataset(data, name=name, **options)
    except InputError as error:
        return _located(error, name)
    assert len(found) == len(found.lines) >= 1
    assert list(found.lines) == sorted(found.lines)
    assert len(found.fingerprint) == 64
    json.dumps(found.rows(), ensure_ascii=False).encode()
    with suppress(InputError):  # a target may be too long, or a label alone
        statistics(found, TOKENIZER, 64)
    return found


def _located(error: InputError, name: str) -> InputError:
    assert error.hint
    assert str(error).encode()
    assert error.faults or name in str(error), str(error)
    assert all(fault.where.startswith("line ") and int(fault.where[5:]) > 0 for fault in error.faults)
    assert all(fault.found and fault.fix for fault in error.faults)
    return error


names = st.sampled_from([NAME, "upload.bin.csv", "upload.bin.json", "upload.bin.parquet"])
formats = st.sampled_from([None, None, *FIELDS])


@tried(300)
@given(st.binary(max_size=200), names, formats)
def test_any_bytes(data: bytes, name: str, format: str | None) -> None:
    outcome(data, name, format=format)


texts = st.text(st.characters(categories=("L", "N", "P", "Z", "Cc", "Cs", "So")), max_size=8)
scraps = st.lists(
    st.sampled_from(
        [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            '"',
            '""',
            "\\",
            "\n",
            "\r\n",
            "\r",
            " ",
            "\t",
            "\0",
            "\ufeff",
            "null",
            "NaN",
        ]
        + ["true", "-", "1e999", "9" * 5000, "[" * 2000, '{"a":' * 2000, '"\\ud800"', '"\\u0000"', "\u2028", "\x1c"]
        + [json.dumps(field) for fields in FIELDS.values() for field in fields]
        + ["text,label", "prompt,completion", "text", '"text"', '"label": "x"', '{"text": "a", "label": "b"}']
    ),
    max_size=16,
)


@tried(300)
@given(scraps, names, formats)
def test_scraps_of_json_and_csv(parts: list[str], name: str, format: str | None) -> None:
    outcome("".join(parts).encode(), name, format=format)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
OTHERS = ("references", "input", "role", "content", "from", "value", "passage", "premise", "answers", "x")
fields = st.sampled_from([*sorted({field for fields in FIELDS.values() for field in fields}), *OTHERS])
turns = st.lists(
    st.fixed_dictionaries({}, optional={"role": texts, "content": values, "from": texts, "value": values})
    | st.just({"role": "assistant", "content": "a", "from": "gpt", "value": "a"})
    | values,
    max_size=3,
)
rows_of_any = st.lists(
    st.dictionaries(fields, values | turns, max_size=4)
    | st.fixed_dictionaries({"text": texts, "label": texts})
    | st.fixed_dictionaries({"prompt": texts, "choices": st.lists(texts, max_size=3), "answer": values}),
    min_size=1,
    max_size=4,
)


@tried(300)
@given(rows_of_any, formats, st.sampled_from([None, 0, 1]))
def test_any_rows_in_lines_and_in_an_array(rows: list[Any], format: str | None, indent: int | None) -> None:
    lines = outcome("\n".join(json.dumps(row) for row in rows).encode(), format=format)
    array = outcome(json.dumps(rows, indent=indent).encode(), format=format)
    if isinstance(lines, Dataset):
        assert len(lines) == len(rows)
        assert isinstance(array, Dataset)
        assert (array.examples, array.fingerprint) == (lines.examples, lines.fingerprint)
        assert read_rows(rows, format=format) == lines
    else:
        assert isinstance(array, InputError)
        assert lines.faults
        assert len(array.faults) == len(lines.faults)
        assert {f.where for f in lines.faults} <= {f"line {n}" for n in range(1, len(rows) + 1)}


@tried(100)
@given(rows_of_any, st.sampled_from(sorted(TASKS)))
def test_any_rows_as_a_benchmark(rows: list[Any], task: str) -> None:
    outcome("\n".join(json.dumps(row) for row in rows).encode(), benchmark=task)


@tried(300)
@given(
    st.lists(st.tuples(texts, texts), min_size=1, max_size=5),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_cells_come_back_from_csv_as_they_were(pairs: list[tuple[str, str]], quoting: Any, end: str) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=quoting, lineterminator=end)
    writer.writerows([("prompt", "completion"), *pairs])
    assume("\0" not in buffer.getvalue())
    # Python's writer leaves a bare carriage return unquoted where lines do not end with one.
    assume(quoting == csv.QUOTE_ALL or end == "\r\n" or not any("\r" in cell for pair in pairs for cell in pair))
    assume(not any("\ud800" <= letter <= "\udfff" for letter in buffer.getvalue()))
    found = outcome(buffer.getvalue().encode(), "upload.bin.csv", format="completion")
    if isinstance(found, Dataset):
        assert found.rows() == [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]
    else:
        assert any(not cell.strip() for pair in pairs for cell in pair)


@tried(12)  # each is read by a process of its own
@given(rows_of_any, formats)
def test_any_rows_in_parquet(rows: list[Any], format: str | None) -> None:
    try:
        data = as_parquet(rows)
    except (pa.ArrowException, UnicodeError, OverflowError, TypeError):
        assume(False)
    outcome(data, format=format)


def as_parquet(rows: list[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), buffer, **options)
    return buffer.getvalue()


@cache
def real_files() -> dict[str, bytes]:
    """The beginnings of real files, by the benchmark task they belong to if any; and the same rows as Parquet."""
    intents = ROOT / "steerzo_edge" / "assets" / "intents"
    paths = [intents / "train.jsonl", intents / "task.json", ROOT / "constraints.txt", ROOT / "pyproject.toml"]
    paths += sorted((ROOT / "steerzo_edge" / "assets" / "base").glob("**/*.*"))
    found = {path.name: path.read_bytes()[:PIECE_BYTES] for path in paths}
    for path in sorted(REAL.glob("*/*/dev.jsonl")):
        found[f"real {path.parent.name}"] = path.read_bytes()[: 3 * PIECE_BYTES]
    rows = [json.loads(line) for line in (intents / "train.jsonl").read_bytes().splitlines()[:40]]
    chats = [
        {"messages": [{"role": "user", "content": row["text"]}, {"role": "assistant", "content": "ok"}]}
        for row in rows
    ]
    found["plain.parquet"] = as_parquet(rows, compression="none", use_dictionary=False)
    found["folded.parquet"] = as_parquet(rows, compression="zstd", row_group_size=10)
    found["chats.parquet"] = as_parquet(chats, compression="snappy", version="1.0", data_page_version="2.0")
    return found


Edit = tuple[str, int, int, bytes]
edits: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "double", "splice", "end"]),
        st.integers(0, 1 << 16),
        st.integers(0, 1 << 16),
        st.binary(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=6,
)


def edited(data: bytes, other: bytes, changes: list[Edit]) -> bytes:
    for kind, first, second, scrap in changes:
        at, to = sorted((first % (len(data) + 1), second % (len(data) + 1)))
        match kind:
            case "flip" if data:
                place = first % len(data)
                data = data[:place] + bytes([data[place] ^ (second % 255 + 1)]) + data[place + 1 :]
            case "cut":
                data = data[:at] + data[min(to, at + 64) :]
            case "insert":
                data = data[:at] + scrap + data[at:]
            case "double":
                data = data[:to] + data[at:]
            case "splice":
                data = data[:at] + other[first % (len(other) + 1) :]
            case "end":
                data = data[:to]
    return data


@pytest.mark.parametrize("file", sorted(name for name in real_files() if not name.endswith(".parquet")))
@tried(25)
@given(edits, st.data())
def test_real_files_that_were_damaged(file: str, changes: list[Edit], data: st.DataObject) -> None:
    files = real_files()
    other = files[data.draw(st.sampled_from(sorted(files)), label="spliced with")]
    damaged = edited(files[file], other, changes)
    task = file.removeprefix("real ")
    outcome(damaged, data.draw(names), benchmark=task if task in TASKS else None)


@pytest.mark.parametrize("file", [name for name in real_files() if name.endswith(".parquet")])
@tried(12)
@given(st.data())
def test_parquet_with_a_few_wrong_bytes(file: str, data: st.DataObject) -> None:
    whole = bytearray(real_files()[file])
    if data.draw(st.integers(0, 3)) == 0:
        whole = bytearray(edited(bytes(whole), real_files()["folded.parquet"], data.draw(edits)))
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            # The footer says where everything is; the marks at both ends stay.
            place = data.draw(st.integers(4, len(whole) - 5) | st.integers(len(whole) * 2 // 3, len(whole) - 5))
            whole[place] = data.draw(st.integers(0, 255))
    outcome(bytes(whole))
