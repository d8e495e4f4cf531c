"""Log lines in text or JSON, with the job and the request they are about, and without any data of users.

For an unexpected error the log shows files, lines and functions, but not the message, because a message may quote a
row or a prompt. Errors of the operating system and the database quote no data, so their messages are logged. Users
see all messages, in the answer or in the job; the setting `log_messages` logs them too. What a record is given as
`extra={PRIVATE: text}` is also logged only then.
"""

import json
import logging
import re
import sqlite3
import sys
import time
import traceback
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Literal

REQUEST: Final[ContextVar[str | None]] = ContextVar("request", default=None)
PRIVATE: Final = "private"
HARMLESS: Final = (OSError, MemoryError, sqlite3.Error)
_JOB: Final = re.compile(r"\bjob_[0-9a-f]{16}\b")
_Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def configure(format: Literal["text", "json"], level: str, *, messages: bool = False) -> None:
    """Writes all log records of this process to standard error, in one format.

    Args:
        format: "text" or "json" (one object per line).
        level: Least level that is written: "debug", "info", "warning".
        messages: Whether to write the messages of unexpected errors.
    """
    line = logging.StreamHandler(sys.stderr)
    line.setFormatter(JsonLines(messages=messages) if format == "json" else TextLines(messages=messages))
    logging.basicConfig(level=level.upper(), handlers=[line], force=True)
    # At lower levels this logger writes parts of forms.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    # These write whole addresses, and those of webhooks may hold secrets.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


class TextLines(logging.Formatter):
    """Formats records as text.

    Args:
        messages: Whether to write the messages of unexpected errors.
    """

    def __init__(self, *, messages: bool = False) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._messages = messages

    def format(self, record: logging.LogRecord) -> str:
        """One record on one line, followed by the frames of its error."""
        text = super().format(record)
        private = self.private_of(record)
        about = " ".join(f"{name}={value}" for name, value in _about(record).items())
        first, *frames = text.split("\n")
        first = f"{first}: {' '.join(private.split())}" if private else first
        return "\n".join([f"{first} [{about}]" if about else first, *frames])

    def private_of(self, record: logging.LogRecord) -> str:
        """What a record says only if messages are logged."""
        return str(getattr(record, PRIVATE, "")) if self._messages else ""

    def formatException(self, ei: _Raised) -> str:
        """An error's class and its frames."""
        return "\n".join(_lines_of(ei[1], messages=self._messages))


class JsonLines(TextLines):
    """Formats records as JSON objects: time, level, logger, message; if present, request, job, error and fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One record on one line."""
        fields: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        } | _about(record)
        if private := self.private_of(record):
            fields[PRIVATE] = private
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def _about(record: logging.LogRecord) -> dict[str, Any]:
    """The request and the job of a record; a job's id is recognised in the message by its form."""
    message = record.getMessage()
    named = _JOB.search(message)
    found = {
        "request": getattr(record, "request", None) or REQUEST.get(),
        "job": getattr(record, "job", None) or (named and named[0]),
    }
    return {name: value for name, value in found.items() if value} | dict(getattr(record, "fields", {}))


def _lines_of(error: BaseException | None, *, messages: bool) -> list[str]:
    lines: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        shown = str(error) if messages or isinstance(error, HARMLESS) else "(message not logged)"
        lines.append(f"{type(error).__qualname__}: {shown}")
        lines += [f"  {f.filename}:{f.lineno} in {f.name}" for f in traceback.extract_tb(error.__traceback__)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return lines
