"""How the rows of a file are written: packed or not; Parquet, JSON lines, a JSON array, or CSV.

Packed files are unpacked up to a limit, because a small file may hold any number of bytes.
"""

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import pyarrow as pa

from steerzo_edge.data.parquet import is_parquet, parquet_text
from steerzo_edge.data.rows import (
    Faults,
    Row,
    csv_rows,
    decoded,
    delimiter_of,
    json_array_rows,
    json_rows,
    wrapped_array,
)
from steerzo_edge.errors import DatasetError, Fault

MOST_UNPACKED_BYTES = 256 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_ENDING = re.compile(r"\.(gz|zst)$", re.IGNORECASE)
_SEPARATED: Final = {",": "CSV", ";": "CSV separated by semicolons", "\t": "CSV separated by tabs"}


@dataclass(frozen=True, slots=True)
class Source:
    """Rows that can be read more than once.

    Args:
        rows: Reads them; what cannot be read adds faults.
        container: How they are written, for people.
    """

    rows: Callable[[Faults], Iterator[Row]]
    container: str


def source_of(data: bytes, name: str, first: int | None = None) -> Source:
    """The rows of a file.

    Args:
        data: Its bytes.
        name: Its name; its ending tells CSV from other text, which is recognized by its first character.
        first: How many rows are wanted; None for all.

    Raises:
        DatasetError: If it is empty, damaged, not text, or too large once it is unpacked.
    """
    packed = "gzip" if data.startswith(_GZIP) else "zstd" if data.startswith(_ZSTD) else None
    if packed is None:
        return _source(data, name, first)
    inner = _source(_unpacked(data, packed, name), _ENDING.sub("", name), first)
    return Source(inner.rows, f"{inner.container}, packed with {packed}")


def _source(data: bytes, name: str, first: int | None) -> Source:
    if is_parquet(data):
        return Source(partial(json_rows, parquet_text(data, name, first)), "Parquet")
    text = decoded(data, name)
    head = text.lstrip()[:1]
    is_table = name.lower().endswith((".csv", ".tsv"))
    if is_table or head not in ("{", "["):
        delimiter = "\t" if name.lower().endswith(".tsv") else delimiter_of(text)
        return Source(partial(csv_rows, text, delimiter), _SEPARATED[delimiter])
    start = wrapped_array(text) if head == "{" else text.index("[")
    if start is None:
        return Source(partial(json_rows, text), "JSON lines")
    container = "a JSON array" if head == "[" else "a JSON array under `data`"
    return Source(partial(json_array_rows, text, name=name, start=start), container)


def _unpacked(data: bytes, how: str, name: str) -> bytes:
    try:
        stream = io.BytesIO(data) if how == "gzip" else pa.BufferReader(data)
        with gzip.open(stream) if how == "gzip" else pa.CompressedInputStream(stream, "zstd") as file:
            found: bytes = file.read(MOST_UNPACKED_BYTES + 1)
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DatasetError(
            f"{name}: it cannot be unpacked with {how}: {reason}",
            faults=[Fault("line 1", "", reason, "pack the file again")],
            hint="Pack the file again, or send it as it was.",
        ) from None
    if len(found) > MOST_UNPACKED_BYTES:
        limit = f"more than {MOST_UNPACKED_BYTES:,} bytes once it is unpacked"
        raise DatasetError(
            f"{name}: {limit}", faults=[Fault("line 1", "", limit, "split the file")], hint="Split it."
        )
    if found.startswith((_GZIP, _ZSTD)):
        raise DatasetError(f"{name}: it is packed more than once", hint="Pack it once.")
    return found
