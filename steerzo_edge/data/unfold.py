"""Parquet on standard input to JSON lines on standard output: the program that `parquet.py` runs.

It runs in a process of its own and imports nothing of this package: pyarrow ends the whole process on some damaged
files, and others are made to grow larger than memory. So there are three checks: the sizes that the file states are
checked before it is read; the real size of each batch is checked while repeated texts are still stored once; the
operating system limits the memory and the processor time of the process.

    python -P unfold.py ROWS VALUES BYTES FIRST      most rows, values and bytes of values; rows wanted, 0 for all
"""

import json
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

REFUSED = 3
BATCH_ROWS = 256
MEMORY_BYTES = 3 << 30
PROCESSOR_S = 120
# Some of the errors that pyarrow raises are Python's own: for text that is not UTF-8, an unknown type number.
_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError)


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest file that is read.

    Args:
        rows: Most rows.
        values: Most values of all columns together, as the file states.
        bytes: Most bytes of all values, both as the file states and as measured.
        first: Rows wanted; 0 for all.
    """

    rows: int
    values: int
    bytes: int
    first: int


class TooLarge(Exception):
    """A file exceeds the limits."""


def unfolded(data: bytes, limits: Limits) -> Iterator[dict[str, Any]]:
    """The rows: nulls are left out; columns that are no text, number or truth value give their type instead.

    Raises:
        TooLarge: If the file exceeds the limits; the message says which.
    """
    whole = parquet.ParquetFile(pa.BufferReader(data))
    _check_size(whole.metadata, limits)
    columns = (whole.schema.column(index) for index in range(len(whole.schema)))
    texts = [column.path for column in columns if column.logical_type.type == "STRING"]
    file = parquet.ParquetFile(pa.BufferReader(data), read_dictionary=texts)
    unread = {
        field.name: {"a value of type": str(field.type)} for field in file.schema_arrow if not _is_plain(field.type)
    }
    read = [field.name for field in file.schema_arrow if field.name not in unread]
    if not read:
        yield from (dict(unread) for _ in range(file.metadata.num_rows))
    total = 0
    for batch in file.iter_batches(BATCH_ROWS, columns=read, use_threads=False) if read else ():
        total += sum(_weight(column) for column in batch.columns)
        if total > limits.bytes:
            raise TooLarge(f"more than {limits.bytes:,} bytes of values")
        for row in batch.to_pylist():
            yield {key: value for key, value in row.items() if value is not None} | unread


def _check_size(metadata: parquet.FileMetaData, limits: Limits) -> None:
    if metadata.num_rows > limits.rows:
        raise TooLarge(f"{metadata.num_rows:,} rows, at most {limits.rows:,} are read")
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    values, size = sum(chunk.num_values for chunk in chunks), sum(chunk.total_uncompressed_size for chunk in chunks)
    if values > limits.values or size > limits.bytes:
        most = f"at most {limits.values:,} and {limits.bytes:,} are read"
        raise TooLarge(f"{values:,} values and {size:,} bytes once it is unpacked, {most}")


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
    """Bytes of an array's values, counting repeated ones each time they occur, without making copies of them."""
    if pa.types.is_dictionary(array.type):
        return _sum(pc.binary_length(array.dictionary).take(array.indices)) + 8 * len(array)
    if pa.types.is_struct(array.type):
        return 8 * len(array) + sum(_weight(field) for field in array.flatten())
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return 8 * len(array) + _weight(array.flatten())
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return 8 * len(array) + _sum(pc.binary_length(array))
    return 8 * len(array)


def _sum(lengths: pa.Array) -> int:
    return int(pc.sum(lengths.cast(pa.int64())).as_py() or 0)


def _main(limits: Limits) -> int:
    written = 0
    try:
        for count, row in enumerate(unfolded(sys.stdin.buffer.read(), limits), 1):
            # JSON writes a control character as six characters, so the output may be larger than the values.
            written += sys.stdout.buffer.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            if written > 2 * limits.bytes:
                raise TooLarge(f"more than {2 * limits.bytes:,} bytes as JSON lines")
            if count == limits.first:
                break
        sys.stdout.buffer.flush()
    except (TooLarge, *_ERRORS) as error:
        sys.stdout.buffer.flush()
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        json.dump({"large": isinstance(error, TooLarge | MemoryError), "reason": reason}, sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_S, PROCESSOR_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(_main(Limits(*map(int, sys.argv[1:]))))
