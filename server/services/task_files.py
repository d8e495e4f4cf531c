"""Reads files of benchmark tasks that a request names: only files under the operator's --tasks-dir."""

from pathlib import Path, PurePosixPath

from server.errors import TooLargeError
from steerzo_edge.errors import InputError, NotFoundError


def read_task_file(directory: Path | None, path: str, most_bytes: int) -> bytes:
    """The bytes of a file under the operator's directory.

    Args:
        directory: The operator's directory; None if none is set.
        path: The path from the request, relative to the directory.
        most_bytes: Size of the largest file that is read.

    Raises:
        InputError: If no directory is set, or the path leads out of it, directly or through a link.
        NotFoundError: If there is no such file.
        TooLargeError: If the file exceeds `most_bytes`.
    """
    if directory is None:
        raise InputError(
            "this server has no directory of task files, so a dataset cannot be named by its path",
            hint="Upload the file with POST /datasets, or have the operator start the server with --tasks-dir.",
        )
    named = PurePosixPath(path)
    if named.is_absolute() or ".." in named.parts or "\0" in path:
        raise _outside(path)
    home = directory.resolve()
    try:
        found = (home / named).resolve(strict=True)
    except (OSError, RuntimeError):  # a missing file, too long a name, or circular links
        raise _missing(path) from None
    if not found.is_relative_to(home):
        raise _outside(path)
    if not found.is_file():
        raise _missing(path)
    if found.stat().st_size > most_bytes:
        raise TooLargeError(f"the task file {path!r} exceeds {most_bytes} bytes")
    return found.read_bytes()


def _outside(path: str) -> InputError:
    return InputError(
        f"dataset.path {path!r} does not lie inside the server's directory of task files",
        hint='Name a file by its path below that directory, such as "rte/train.jsonl".',
    )


def _missing(path: str) -> NotFoundError:
    return NotFoundError(f"there is no task file {path!r}", hint="Ask the operator for the names of the files.")
