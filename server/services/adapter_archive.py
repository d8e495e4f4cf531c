"""Takes the two files of an adapter out of an uploaded zip, under fixed names; other entries are not read.

Defences against a hostile archive:

- millions of entries: the size of the zip's directory is checked before it is read;
- paths that lead outside, and links: refused, and no name from the archive is ever used as a path;
- a few kilobytes that unpack to terabytes: bytes are counted while they are unpacked;
- two entries of the same name: refused.
"""

import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Final

from server.errors import TooLargeError
from steerzo_edge.errors import AdapterFileError
from steerzo_edge.model.adapter_file import CONFIG, WEIGHTS

MOST_ENTRIES: Final = 256
MOST_DIRECTORY_BYTES: Final = 64 << 10
MOST_CONFIG_BYTES: Final = 64 << 10
_CHUNK: Final = 1 << 20
_END: Final = struct.Struct("<4s4H2LH")
_END_OF_ZIP64_BYTES: Final = 20
_SENT_ALONE: Final = (
    "Or send the two files themselves: -F file=@adapter_model.safetensors -F config=@adapter_config.json."
)


def is_zip(path: Path) -> bool:
    """Whether a file begins with the signature of a zip."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def unpack(path: Path, directory: Path, *, most_bytes: int) -> None:
    """Takes the two files of an adapter out of a zip, from its top or from the one directory they are in.

    Args:
        path: The zip.
        directory: The directory to write the files to.
        most_bytes: Most bytes of the unpacked weights.

    Raises:
        AdapterFileError: If it is not a plain zip of a PEFT directory.
        TooLargeError: If the unpacked weights exceed `most_bytes`.
        OSError: If the disk is full or fails.
    """
    _check_end(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            for member in members:
                _check_member(member)
            for name, most in ((CONFIG, MOST_CONFIG_BYTES), (WEIGHTS, most_bytes)):
                _take(archive, _only(members, name), directory / name, most)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, UnicodeError) as error:
        raise _unreadable(str(error)) from None


def _check_end(path: Path) -> None:
    """Checks the size of the list of entries from the zip's last record: zipfile reads the whole list at once."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _END.size - _END_OF_ZIP64_BYTES))
        tail = file.read()
    if len(tail) < _END.size:
        raise _unreadable("it is too short")
    magic, _, _, _, entries, directory_bytes, _, comment = _END.unpack(tail[-_END.size :])
    if magic != b"PK\x05\x06" or comment:
        raise _unreadable("it does not end as a zip without a comment does")
    if tail[: -_END.size][:4] == b"PK\x06\x07" or entries > MOST_ENTRIES or directory_bytes > MOST_DIRECTORY_BYTES:
        raise _unreadable(f"it may contain {MOST_ENTRIES} files at most, and must not use the ZIP64 format")


def _check_member(member: zipfile.ZipInfo) -> None:
    name = member.orig_filename
    parts = PurePosixPath(name).parts
    if not name.isprintable() or "\\" in name or ":" in name or name.startswith("/") or ".." in parts:
        raise _unreadable(f"the name {name[:100]!r} leads outside the archive")
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _unreadable(f"{name[:100]!r} is a link or a device")
    if member.flag_bits & 0x1:
        raise _unreadable(f"{name[:100]!r} is encrypted")


def _only(members: list[zipfile.ZipInfo], name: str) -> zipfile.ZipInfo:
    found = [member for member in members if _is_at_the_top(member.orig_filename, name)]
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise _unreadable(f"it contains {name} {len(found)} times")
    pickled = [member.orig_filename for member in members if member.orig_filename.endswith((".bin", ".pt", ".pth"))]
    if name == WEIGHTS and pickled:
        raise AdapterFileError(
            f"the zip contains the weights only as {PurePosixPath(pickled[0]).name}, and loading that may run code",
            hint="Save the adapter as safetensors: save_pretrained does so by default.",
        )
    raise AdapterFileError(f"{name} is missing from the zip, at its top and in the directories there")


def _is_at_the_top(entry: str, name: str) -> bool:
    parts = PurePosixPath(entry).parts
    return len(parts) <= 2 and not entry.endswith("/") and bool(parts) and parts[-1] == name


def _take(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, most: int) -> None:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _unreadable(f"{target.name} uses an unsupported compression method")
    left = most
    with archive.open(member) as packed, target.open("xb") as file:
        while chunk := packed.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise TooLargeError(
                    f"{target.name} has more than {most} bytes when unpacked",
                    hint="Train with a lower rank, or raise the server's limit (max_upload_bytes).",
                )
            file.write(chunk)


def _unreadable(why: str) -> AdapterFileError:
    return AdapterFileError(f"the zip cannot be used: {why}", hint=f"Zip the PEFT directory again. {_SENT_ALONE}")
