"""What a line of the log looks like: text or JSON, with the job and request it is about, and nothing users sent.

A traceback names files, lines and functions but not what the error said: messages quote what was found where it
should not be, and that may be a row or a prompt. Files and systems say nothing of the kind, so their errors are
shown whole. Users are told everything, in the answer or in the job; `log_messages` has it logged as well.
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
HARMLESS: Final = (OSError, MemoryError, sqlite3.Error)
_JOB: Final = re.compile(r"\bjob_[0-9a-f]{16}\b")
_Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def configure(format: Literal["text", "json"], level: str, *, messages: bool = False) -> None:
    """Has everything that is logged in this process written to standard error in one form.

    Args:
        format: "text" or "json" (one object a line).
        level: The least that is written: "debug", "info", "warning".
        messages: Whether to write what unexpected errors say.
    """
    line = logging.StreamHandler(sys.stderr)
    line.setFormatter(JsonLines(messages=messages) if format == "json" else TextLines(messages=messages))
    logging.basicConfig(level=level.upper(), handlers=[line], force=True)
    # It writes parts of forms when asked for details.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


class TextLines(logging.Formatter):
    """Lines for people.

    Args:
        messages: Whether to write what unexpected errors say.
    """

    def __init__(self, *, messages: bool = False) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._messages = messages

    def format(self, record: logging.LogRecord) -> str:
        """One record, on one line but for the frames of an error."""
        text = super().format(record)
        about = " ".join(f"{name}={value}" for name, value in _about(record).items())
        first, *frames = text.split("\n")
        return "\n".join([f"{first} [{about}]" if about else first, *frames])

    def formatException(self, ei: _Raised) -> str:
        """An error's class and where it came from."""
        return "\n".join(_told(ei[1], messages=self._messages))


class JsonLines(TextLines):
    """One JSON object a line: time, level, logger, message; request, job, error and fields where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        told: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        } | _about(record)
        if record.exc_info and record.exc_info[1] is not None:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def _about(record: logging.LogRecord) -> dict[str, Any]:
    """The request and the job of a line: ids that the server made, so that their form tells what they are."""
    message = record.getMessage()
    named = _JOB.search(message)
    found = {
        "request": getattr(record, "request", None) or REQUEST.get(),
        "job": getattr(record, "job", None) or (named and named[0]),
    }
    return {name: value for name, value in found.items() if value} | dict(getattr(record, "fields", {}))


def _told(error: BaseException | None, *, messages: bool) -> list[str]:
    lines: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        shown = str(error) if messages or isinstance(error, HARMLESS) else "(what it says is not logged)"
        lines.append(f"{type(error).__qualname__}: {shown}")
        lines += [f"  {f.filename}:{f.lineno} in {f.name}" for f in traceback.extract_tb(error.__traceback__)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return lines
