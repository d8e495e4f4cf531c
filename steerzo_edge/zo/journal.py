"""The journal: a header, and one checksummed line for each step, each evaluation, and each decision.

    3f1c09aa {"kind": "step", "gradient": [[2938471, 0.25], ...], "learning_rate": 0.004, "loss": 1.71, ...}

A line is on the disk before the update rule moves anything. A run is its header plus these lines: replaying
them gives the same parameters bit for bit, without a forward pass. A process that is killed while it writes
leaves at most one incomplete line at the end, which is dropped when the file is opened again.
"""

import json
import os
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, overload

from pydantic import Field

from steerzo_edge.config import Config
from steerzo_edge.errors import InputError, JournalError
from steerzo_edge.storage.files import write_bytes
from steerzo_edge.zo.entry import Entry

FORMAT = 1


class Header(Config):
    """What a replay needs, and what must be equal for a run to continue."""

    format: int = Field(FORMAT, description="Version of this file format.")
    seed: int = Field(description="Of the run: candidates, batches and the adapter's start derive from it.")
    size: int = Field(description="d, the number of trained parameters.")
    base: str = Field(description="Fingerprint of the frozen base.")
    data: str = Field(description="Fingerprint of the training rows and the task.")
    validation: str | None = Field(description="Fingerprint of the validation rows.")
    noise: str = Field(description="Fingerprint of the noise: another device or library may draw other numbers.")
    device: str = Field(description="What the noise was made on.")
    profile: dict[str, Any] = Field(description="The resolved profile.")
    versions: dict[str, str] = Field(description="Of the libraries that make noise and products.")


class Entries(Sequence[Entry]):
    """The entries of a journal, read from its file on access: memory holds 8 bytes an entry, not the entry.

    Args:
        path: Of the file.
        starts: Offset of each line in the file, in bytes.
    """

    def __init__(self, path: Path, starts: Iterable[int]) -> None:
        self._path = path
        self._starts = array("Q", starts)

    def add(self, start: int) -> None:
        """Adds an entry that has been written to the file."""
        self._starts.append(start)

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Entry]:
        with self._path.open("rb") as file:
            for start in self._starts:
                file.seek(start)
                yield self._read(file)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return list(Entries(self._path, self._starts[index]))
        with self._path.open("rb") as file:
            file.seek(self._starts[index])
            return self._read(file)

    def _read(self, file: BinaryIO) -> Entry:
        value = _parsed(file.readline().rstrip(b"\n"))
        if value is None:
            raise JournalError(f"{self._path.name}: a line was damaged while the journal was in use")
        return Entry.of_json(value)


class Journal:
    """An open journal. Make one with `create` or `reopen`.

    Args:
        path: Of the file.
        header: Its first line.
        entries: Those already in it.
    """

    def __init__(self, path: Path, header: Header, entries: Entries) -> None:
        self.path = path
        self.header = header
        self.entries = entries
        # Unbuffered: after a write failed on a full disk, closing the file must not write the rest of it.
        self._file = path.open("ab", buffering=0)

    @classmethod
    def create(cls, path: Path, header: Header) -> Self:
        """Starts a new journal; the file appears whole, with its header."""
        line = _line({"kind": "header", **header.model_dump(mode="json")})
        write_bytes(path, line)
        return cls(path, header, Entries(path, ()))

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Opens a journal to append to it; an incomplete last line is cut off.

        Raises:
            JournalError: If it cannot be read.
        """
        header, starts, length = _scanned(path)
        with path.open("r+b") as file:
            file.truncate(length)
            os.fsync(file.fileno())
        return cls(path, header, Entries(path, starts))

    @staticmethod
    def read(path: Path) -> tuple[Header, Entries]:
        """Reads header and entries without changing the file.

        Raises:
            JournalError: If it cannot be read.
        """
        header, starts, _ = _scanned(path)
        return header, Entries(path, starts)

    def append(self, entry: Entry) -> None:
        """Writes one line and waits until it is on the disk.

        Raises:
            OSError: If the disk is full or fails; an incomplete line is cut off, now or at the next opening.
        """
        length = os.fstat(self._file.fileno()).st_size
        try:
            rest = memoryview(_line(entry.as_json()))
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), length)
            raise
        self.entries.add(length)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _line(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(value, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _scanned(path: Path) -> tuple[Header, list[int], int]:
    """Header, offset of each entry, and the length in bytes of the complete lines; checks every line."""
    header: Header | None = None
    starts: list[int] = []
    length = 0
    torn: int | None = None
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            value = _parsed(line[:-1]) if line.endswith(b"\n") else None
            if value is None:
                torn = torn or number
                continue
            if torn is not None:
                raise JournalError(f"{path.name}: line {torn} is damaged, but complete lines follow it")
            try:
                if header is None:
                    header = _header(path, value)
                else:
                    Entry.of_json(value)
                    starts.append(length)
            except (KeyError, TypeError, InputError) as error:
                raise JournalError(f"{path.name}: a line has a missing or unknown field: {error}") from error
            length += len(line)
    if header is None:
        raise JournalError(f"{path.name}: the header is missing or damaged")
    return header, starts, length


def _header(path: Path, value: dict[str, Any]) -> Header:
    if value.pop("kind", None) != "header":
        raise JournalError(f"{path.name}: the header is missing or damaged")
    if value.get("format") != FORMAT:
        raise JournalError(f"{path.name}: format {value.get('format')!r}; this version reads {FORMAT}")
    return Header.parse(value, where="header")


def _parsed(line: bytes) -> dict[str, Any] | None:
    checksum, _, text = line.partition(b" ")
    if len(checksum) != 8 or b"%08x" % zlib.crc32(text) != checksum:
        return None
    value = json.loads(text)
    return value if isinstance(value, dict) else None
