"""Parquet to rows, counted from 1. Columns that no row of text can hold are named by their type, not read.

A small file may become a huge one: columns are compressed, and one long text may be repeated a million times for a
few bytes. What the file says of itself is checked before it is read, and what it becomes before it is unfolded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from steerzo_edge.data.rows import Row
from steerzo_edge.errors import DatasetError, Fault

MAGIC: Final = b"PAR1"
BATCH_ROWS = 1024
MOST_ROWS = 1_000_000
# Values of all columns: 16 million of four bytes, before they are unfolded.
MOST_VALUES = 16 << 20
MOST_BYTES = 256 << 20
_HINT = "Write the file again, or upload JSON lines."
# What pyarrow raises is partly Python's own: a text that is not UTF-8, a number without a name.
_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError)


@dataclass(frozen=True, slots=True)
class Unread:
    """Stands for the values of a column that was not read."""

    type: str

    def __str__(self) -> str:
        return f"a value of type {self.type}"


def is_parquet(data: bytes) -> bool:
    """Whether a file begins like Parquet."""
    return data.startswith(MAGIC)


def parquet_rows(data: bytes, name: str, faults: list[Fault]) -> Iterator[Row]:
    """The rows of a file; nulls are fields that a row does not have.

    Raises:
        DatasetError: If the file is damaged, or becomes too large.
    """
    number = total = 0
    try:
        file = parquet.ParquetFile(pa.BufferReader(data), read_dictionary=_texts(data))
        _check_size(file, name)
        unread = {field.name: Unread(str(field.type)) for field in file.schema_arrow if not _is_plain(field.type)}
        columns = [field.name for field in file.schema_arrow if field.name not in unread]
        for batch in file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
            total += sum(_weight(column) for column in batch.columns)
            if total > MOST_BYTES:
                raise _too_large(name, number + 1, f"more than {MOST_BYTES:,} bytes of values")
            for row in batch.to_pylist():
                number += 1
                yield number, {key: value for key, value in row.items() if value is not None} | unread
        if not columns:
            for number in range(1, file.metadata.num_rows + 1):
                yield number, unread
    except _ERRORS as error:
        raise _damaged(name, number + 1, error) from None


def _texts(data: bytes) -> list[str]:
    """Columns of texts, which stay folded: each different text once, and numbers that name it."""
    schema = parquet.ParquetFile(pa.BufferReader(data)).schema
    columns = (schema.column(index) for index in range(len(schema)))
    return [column.path for column in columns if column.logical_type.type == "STRING"]


def _check_size(file: parquet.ParquetFile, name: str) -> None:
    metadata = file.metadata
    if metadata.num_rows > MOST_ROWS:
        raise _too_large(name, MOST_ROWS + 1, f"{metadata.num_rows:,} rows, at most {MOST_ROWS:,} are read")
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    values, size = sum(chunk.num_values for chunk in chunks), sum(chunk.total_uncompressed_size for chunk in chunks)
    if values > MOST_VALUES or size > MOST_BYTES:
        limits = f"at most {MOST_VALUES:,} and {MOST_BYTES:,} are read"
        raise _too_large(name, 1, f"{values:,} values and {size:,} bytes once it is unpacked, {limits}")


def _is_plain(type: pa.DataType) -> bool:
    if pa.types.is_dictionary(type):
        return _is_plain(type.value_type)
    if pa.types.is_struct(type):
        return all(_is_plain(type.field(index).type) for index in range(type.num_fields))
    if pa.types.is_list(type) or pa.types.is_large_list(type):
        return _is_plain(type.value_type)
    known = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
    return pa.types.is_boolean(type) or pa.types.is_null(type) or any(is_one(type) for is_one in known)


def _weight(array: pa.Array) -> int:
    """Bytes of an array's values, repeated ones as often as they occur, without unfolding them."""
    if pa.types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary)
        return _sum(lengths.take(array.indices)) + 8 * len(array)
    if pa.types.is_struct(array.type):
        return 8 * len(array) + sum(_weight(field) for field in array.flatten())
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return 8 * len(array) + _weight(array.flatten())
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return 8 * len(array) + _sum(pc.binary_length(array))
    return 8 * len(array)


def _sum(lengths: pa.Array) -> int:
    return int(pc.sum(lengths.cast(pa.int64())).as_py() or 0)


def _too_large(name: str, row: int, found: str) -> DatasetError:
    return DatasetError(
        f"{name}: {found}", faults=[Fault(f"line {row}", "", found, "split the file")], hint="Split the file."
    )


def _damaged(name: str, row: int, error: BaseException) -> DatasetError:
    told = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return DatasetError(
        f"{name}: the Parquet file cannot be read from row {row} on: {told}",
        faults=[Fault(f"line {row}", "", told, "write the file again")],
        hint=_HINT,
    )
