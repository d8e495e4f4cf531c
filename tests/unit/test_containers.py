"""Files that are packed, tables with other separators, and arrays inside an object."""

import gzip
import json

import pyarrow as pa
import pytest

from steerzo_edge.data import containers
from steerzo_edge.data.reading import read_dataset
from steerzo_edge.errors import DatasetError
from tests.unit.format_rows import ROWS, faults_of, lines, parquet_bytes


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


CONTAINERS = {
    "rows.jsonl": lines(ROWS["classification"]),
    "rows.json": json.dumps(ROWS["classification"], indent=1).encode(),
    "rows.csv": b"text,label\ngood,x\nbad,y\n",
    "rows.tsv": b"text\tlabel\ngood\tx\nbad\ty\n",
    "rows.parquet": parquet_bytes(ROWS["classification"]),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_may_be_packed(name: str) -> None:
    data = CONTAINERS[name]
    expected = read_dataset(data, name=name)
    for ending, packed, how in ((".gz", gzip.compress(data), "gzip"), (".zst", zstd(data), "zstd")):
        for file in (name + ending, name + ending.upper()):
            found = read_dataset(packed, name=file)
            assert found == expected
            assert found.remarks.container == f"{expected.remarks.container}, packed with {how}"
    twice = gzip.compress(data) + gzip.compress(b"\n" + data) if name == "rows.jsonl" else None
    assert twice is None or len(read_dataset(twice, name="rows.jsonl.gz")) == 2 * len(expected)


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_small_file_that_becomes_a_large_one_is_refused(pack: "object", monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(pack)
    monkeypatch.setattr(containers, "MOST_UNPACKED_BYTES", 1 << 20)
    packed = pack(b'{"text": "' + b"a" * (1 << 26) + b'"}')
    assert len(packed) < 1 << 20
    with pytest.raises(DatasetError, match="more than 1,048,576 bytes once it is unpacked"):
        read_dataset(packed, name="bomb")


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_packed_file_that_is_damaged_is_refused(pack: "object") -> None:
    assert callable(pack)
    whole = pack(lines(ROWS["completion"] * 50))
    for broken in (whole[:-9], whole[:20], whole[:4]):
        with pytest.raises(DatasetError, match="cannot be unpacked"):
            read_dataset(broken, name="rows.jsonl")
    with pytest.raises(DatasetError, match="packed more than once"):
        read_dataset(pack(whole), name="rows.jsonl")
    with pytest.raises(DatasetError, match="empty"):
        read_dataset(pack(b""), name="rows.jsonl")


@pytest.mark.parametrize(
    ("text", "name", "container"),
    [
        ("text;label\ngood, warm;x\n", "rows.csv", "CSV separated by semicolons"),
        ("text\tlabel\ngood, warm\tx\n", "rows.csv", "CSV separated by tabs"),
        ("text\tlabel\ngood, warm\tx\n", "rows.tsv", "CSV separated by tabs"),
        ("text;label\ngood, warm;x\n", "rows", "CSV separated by semicolons"),
        ('text,label\n"good, warm",x\n', "rows.csv", "CSV"),
        ('text,label,"a;b;c;d"\n"good, warm",x,1\n', "rows.csv", "CSV"),
    ],
)
def test_the_separator_of_a_table_is_found(text: str, name: str, container: str) -> None:
    found = read_dataset(text.encode(), name=name)
    assert found.remarks.container == container
    assert [example.row() for example in found.examples] == [{"text": "good, warm", "label": "x"}]


def test_a_row_with_another_number_of_cells_is_told_the_separator() -> None:
    with pytest.raises(DatasetError, match="quote a cell that holds a semicolon"):
        read_dataset(b"text;label\ngood;x;y\n")


@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_may_be_inside_an_object(indent: int | None) -> None:
    rows = ROWS["completion"]
    expected = read_dataset(lines(rows))
    for document in ({"data": rows}, {"version": "1.1", "n": 2, "data": rows}, {"data": rows, "version": 2.5}):
        found = read_dataset(json.dumps(document, indent=indent).encode())
        assert (found.examples, found.remarks.container) == (expected.examples, "a JSON array under `data`")


def test_what_follows_an_array_inside_an_object_must_end_it() -> None:
    good = '{"prompt": "a", "completion": "b"}'
    assert faults_of(f'{{"data": [\n{good}\n]'.encode()) == [("line 3", "")]
    assert faults_of(f'{{"data": [{good}], "more": [1]}}'.encode()) == [("line 1", "")]
    assert faults_of(f'{{"data": [{good}, 7]}}'.encode()) == [("line 1", "")]


def test_rows_that_have_a_field_data_stay_json_lines() -> None:
    row = {"data": [{"x": 1}], "prompt": "a", "completion": "b"}
    found = read_dataset(lines([row, row]))
    assert (len(found), found.remarks.ignored) == (2, {"data": 2})
