"""Parquet files: their types, and files that unfold too far, break their reader, take too long or are damaged."""

import base64
import io
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from steerzo_edge.data import parquet as reader
from steerzo_edge.data.examples import Completion, Labelled
from steerzo_edge.data.reading import read_dataset, read_rows
from steerzo_edge.errors import DatasetError
from tests.unit.format_rows import ROWS, parquet_bytes


def test_parquet_keeps_types_and_drops_nulls() -> None:
    rows = [{"text": "a", "label": 1, "note": None}, {"text": "b", "label": 0, "note": "n"}]
    assert read_dataset(parquet_bytes(rows)).examples == (Labelled("a", "1"), Labelled("b", "0"))
    rows = [{"prompt": "a", "completion": "b", "references": None}, {"prompt": "c", "completion": "d"}]
    assert read_dataset(parquet_bytes(rows)).format == "completion"
    many = [{"text": "same", "label": "x" if i % 2 else "y"} for i in range(3000)]
    found = read_dataset(parquet_bytes(many, row_group_size=700))
    assert found.examples == read_rows(many).examples
    assert found.lines[-1] == 3000


def test_parquet_columns_that_are_no_text_are_named_by_their_type() -> None:
    table = pa.table(
        {
            "prompt": [b"bytes"],
            "completion": ["b"],
            "when": pa.array([1], pa.timestamp("ns")),
            "price": pa.array([1], pa.decimal128(9)),
        }
    )
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    with pytest.raises(DatasetError, match=r"line 1, field 'prompt': found .*a value of type.*binary"):
        read_dataset(buffer.getvalue())
    buffer = io.BytesIO()
    parquet.write_table(table.set_column(0, "prompt", pa.array(["a"])), buffer)
    assert read_dataset(buffer.getvalue()).examples == (Completion("a", "b"),)


def test_parquet_that_unfolds_is_refused_before_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred bytes may stand for a terabyte: a long text, repeated by its number in a dictionary."""
    monkeypatch.setattr(reader, "MOST_BYTES", 1 << 20)
    rows = [{"text": "x" * 10_000, "label": str(i % 2)} for i in range(1000)]
    data = parquet_bytes(rows, compression="zstd")
    assert len(data) < 5000
    with pytest.raises(DatasetError, match="more than 1,048,576 bytes of values") as caught:
        read_dataset(data)
    assert caught.value.faults[0].where == "line 1"
    nested = [{"messages": [{"role": "user", "content": "y" * 1000}] * 2000}]
    with pytest.raises(DatasetError, match="more than 1,048,576 bytes of values"):
        read_dataset(parquet_bytes(nested, compression="zstd"))
    plain = parquet_bytes([{"text": "z" * 10_000}] * 300, use_dictionary=False, compression="zstd")
    with pytest.raises(DatasetError, match="once it is unpacked"):
        read_dataset(plain)
    monkeypatch.setattr(reader, "MOST_ROWS", 10)
    with pytest.raises(DatasetError, match="20 rows, at most 10"):
        read_dataset(parquet_bytes([{"text": "z"}] * 20))


# One wrong byte in its footer: pyarrow 26 does not raise on it, it ends the process.
FATAL = """
UEFSMRUAFRYVFiwVAhUAFQYVBhwAAAACAAAAAgEBAAAAYRUEGSw1ABgGc2NoZW1hFQIAFQwlFxgEdGV4dCUATBwAAAAWAhkcGRwmABwVDBklBgAZGAR0
ZXh0FQAWAhY8FjwmCEkcFQAVABUCADwWAhkGGSYAAgAAABY8FgImCBY8ACggcGFycXVldC1jcHAtYXJyb3cgdmVyc2lvbiAyNi4wLjEZHBwAAACIAAAA
UEFSMQ==
"""


def test_parquet_that_ends_the_process_which_reads_it() -> None:
    with pytest.raises(DatasetError, match="upload: the Parquet file cannot be read from row 1 on") as caught:
        read_dataset(base64.b64decode(FATAL), name="upload")
    assert caught.value.faults[0].where == "line 1"


def test_parquet_is_read_with_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the keys in it, nor modules that lie about in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyarrow.py").write_text("raise SystemExit(7)")
    program = tmp_path / "program.py"
    program.write_text(
        "import json, os; json.dump({'text': ' '.join(sorted(os.environ))}, __import__('sys').stdout)"
    )
    assert read_dataset(parquet_bytes(ROWS["plain"])).examples == read_rows(ROWS["plain"]).examples
    monkeypatch.setenv("STEERZO_API_KEY", "secret")
    monkeypatch.setattr(reader, "_PROGRAM", program)
    (names,) = read_dataset(b"PAR1").rows()
    assert "PATH" in names["text"]
    assert "STEERZO" not in names["text"]


def test_a_reader_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(reader, "_PROGRAM", program)
    monkeypatch.setattr(reader, "WAIT_S", 0.5)
    with pytest.raises(DatasetError, match="took more than"):
        read_dataset(b"PAR1")


def test_parquet_that_is_damaged_or_empty() -> None:
    data = parquet_bytes(ROWS["plain"])
    for broken in (b"PAR1", data[:40], data[:-9], b"PAR1" + data[20:], data[:-8] + b"\xff\xff\xff\x7fPAR1"):
        with pytest.raises(DatasetError, match="upload") as caught:
            read_dataset(broken, name="upload")
        assert caught.value.faults
    with pytest.raises(DatasetError, match="no rows"):
        read_dataset(parquet_bytes([])[:], name="upload")
