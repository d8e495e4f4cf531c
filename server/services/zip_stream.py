"""A zip that is sent while it is made, so it takes neither memory nor disk.

Files are stored uncompressed, for weights do not compress. Equal files give equal bytes.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, BinaryIO, Final, cast
from zipfile import ZIP_STORED, ZipFile, ZipInfo

_CHUNK: Final = 1 << 20
_MODE: Final = 0o600 << 16


def opened(directory: Path) -> dict[str, BinaryIO]:
    """Opens the files of a directory, by name; they stay readable even if they are deleted.

    Raises:
        OSError: If a file cannot be opened.
    """
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {
            path.name: stack.enter_context(path.open("rb")) for path in sorted(directory.iterdir())
        }
        stack.pop_all()
    return files


def zipped(files: Mapping[str, BinaryIO]) -> Iterator[bytes]:
    """The bytes of a zip of the files, a piece at a time; closes the files."""
    sink = _Sink()
    with ExitStack() as stack:
        for file in files.values():
            stack.enter_context(file)
        with ZipFile(cast(IO[bytes], sink), "w", ZIP_STORED) as archive:
            for name, file in files.items():
                info = ZipInfo(name)
                info.external_attr = _MODE
                with archive.open(info, "w", force_zip64=True) as entry:
                    while chunk := file.read(_CHUNK):
                        entry.write(chunk)
                        yield sink.taken()
        yield sink.taken()


class _Sink:
    """A writable object that collects the bytes written to it until they are taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Does nothing: ZipFile requires the method."""

    def taken(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data
