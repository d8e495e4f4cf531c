"""Files of benchmark tasks that a request may name: those under one directory, which only the operator sets."""

from pathlib import Path, PurePosixPath

from server.problems import TooLargeError
from steerzo_edge.errors import InputError, NotFoundError


def read_task_file(directory: Path | None, path: str, most_bytes: int) -> bytes:
    """The bytes of a file under the operator's directory.

    Args:
        directory: As the operator set it; None if there is none.
        path: As the request named it, relative to the directory.
        most_bytes: Largest file that is read.

    Raises:
        InputError: If there is no such directory, or the path leads out of it, by whatever means.
        NotFoundError: If there is no such file.
        TooLargeError: If it is larger than an upload may be.
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
    except (OSError, RuntimeError):  # missing, a name too long, or links in a circle
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
    return NotFoundError(f"there is no task file {path!r}", hint="Ask the operator which files there are.")
