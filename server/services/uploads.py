"""Receives multipart forms; the file is written to the disk chunk by chunk, so an upload takes no memory.

FastAPI's own forms are not used: they spool files to the system's temporary directory, which may be in memory.
"""

import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from server.errors import media_type_error
from server.system_errors import disk_errors_as_storage_errors
from steerzo_edge.errors import InputError

MOST_FIELDS = 8
MOST_FIELD_BYTES = 64 << 10
_HINT = "curl -F file=@data.jsonl URL/datasets"


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file, synced to the disk.

    Args:
        path: Its temporary path; it is deleted at the end of `received` unless it was moved.
        name: The sender's name for it, without directories.
        sha256: Hash of its bytes, in hex.
        bytes: Its size.
    """

    path: Path
    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class UploadForm:
    """A received form.

    Args:
        file: The field `file`.
        fields: All other fields, by name.
    """

    file: Upload
    fields: Mapping[str, str]


@asynccontextmanager
async def received(request: Request, path: Path, *, hint: str = _HINT) -> AsyncIterator[UploadForm]:
    """Receives a form.

    Args:
        request: A request with a multipart/form-data body.
        path: Where to write its file; deleted at the end unless it was moved.
        hint: The hint of the errors raised.

    Raises:
        InputError: If the body is not a form, has no field `file`, or the client disconnects.
        StorageError: If the disk is full or fails.
    """
    _, options = parse_options_header(request.headers.get("content-type"))
    try:
        with disk_errors_as_storage_errors(), path.open("xb") as file:
            parts = _Parts(file, options.get(b"boundary", b""), hint)
            async for chunk in request.stream():
                await run_in_threadpool(parts.feed, chunk)
            name, sha256, size = parts.finished()
            await run_in_threadpool(_sync, file)
        yield UploadForm(Upload(path, name, sha256, size), parts.fields)
    except ClientDisconnect:  # no client receives this answer
        raise InputError("the connection ended before the upload did") from None
    finally:
        path.unlink(missing_ok=True)


def check_media_type(request: Request, *accepted: str, hint: str | None = None) -> str:
    """The media type of a request's body, which must be one of those that are accepted.

    Args:
        request: The request.
        accepted: Media types, such as "multipart/form-data".
        hint: Of the error; None says what to send.

    Raises:
        InputError: If the header is missing or names another type.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in accepted:
        raise media_type_error(kind, *accepted, hint=hint)
    return kind


class _Parts:
    """Parses the parts of a form as they arrive."""

    def __init__(self, file: BinaryIO, boundary: bytes, hint: str) -> None:
        self._hint = hint
        if not boundary:
            raise InputError("the Content-Type header of the form has no boundary", hint=self._hint)
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._data,
                    "on_part_end": self._part_end,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise InputError(f"the form cannot be read: {error}", hint=self._hint) from None
        self.fields: dict[str, str] = {}
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0
        self._file_name: str | None = None
        self._is_whole = False
        self._begin()

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InputError(f"the form cannot be read: {error}", hint=self._hint) from None

    def finished(self) -> tuple[str, str, int]:
        """The name, hash and size of the file, once the form is complete."""
        if not self._is_whole:
            raise InputError("the form ends before its last boundary", hint=self._hint)
        if self._file_name is None:
            raise InputError("the form has no field `file`", hint=self._hint)
        return self._file_name, self._digest.hexdigest(), self._size

    def _begin(self) -> None:
        self._header: list[bytes] = [b"", b""]
        self._headers: dict[bytes, bytes] = {}
        self._value = bytearray()
        self._name = ""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]
        self._header = [b"", b""]

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = options.get(b"name", b"").decode(errors="replace")
        if self._name == "file":
            if self._file_name is not None:
                raise InputError("the form has two fields `file`", hint="Send one file at a time.")
            given = options.get(b"filename", b"").decode(errors="replace").replace("\\", "/")
            self._file_name = PurePosixPath(given).name or "dataset"
        elif len(self.fields) == MOST_FIELDS:
            raise InputError(f"the form has more than {MOST_FIELDS} fields", hint=self._hint)

    def _data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._name == "file":
            self._file.write(piece)
            self._digest.update(piece)
            self._size += len(piece)
            return
        self._value += piece
        if len(self._value) > MOST_FIELD_BYTES:
            raise InputError(
                f"the field {self._name[:100]!r} is too long", hint="Send large data in the field `file`."
            )

    def _part_end(self) -> None:
        if self._name != "file":
            self.fields[self._name] = self._value.decode(errors="replace")

    def _end(self) -> None:
        self._is_whole = True


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
