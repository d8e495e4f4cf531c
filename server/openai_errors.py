"""Errors under /v1 as OpenAI's error objects, so that OpenAI's client raises the exceptions that its users expect.

{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from steerzo_edge.data.rows import shown
from steerzo_edge.errors import Fault, InputError

PREFIX: Final = "/v1"
SHOWN_FAULTS: Final = 5
PLACES: Final = frozenset({"top level", "body", "query", "path", "header"})
# Codes that OpenAI's client, and code written for it, looks for; other codes are this server's, with underscores.
CODES: Final[Mapping[str, str]] = {
    "unauthorized": "invalid_api_key",
    "prompt-too-long": "context_length_exceeded",
    "busy": "rate_limit_exceeded",
    "internal-error": "server_error",
}
TYPES: Final[Mapping[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.CONFLICT: "conflict_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}


class UnsupportedError(InputError):
    """A feature of OpenAI's API that this server does not have.

    Args:
        param: The parameter.
        found: Its value.
        fix: Why it is refused, and what to send instead.
    """

    code = "unsupported"
    hint = "docs/openai.md lists the parameters that are honoured and those that are refused."

    def __init__(self, param: str, found: Any, fix: str) -> None:
        fault = Fault(param, "", shown(found), fix)
        super().__init__(str(fault), faults=(fault,))


def is_openai(path: str) -> bool:
    """Whether errors of this path are rendered as OpenAI's error objects."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def status_under_v1(status: int) -> int:
    """The status that OpenAI's clients expect: 400 in place of 422."""
    return HTTPStatus.BAD_REQUEST if status == HTTPStatus.UNPROCESSABLE_ENTITY else status


def error_object(problem: Mapping[str, Any]) -> dict[str, Any]:
    """A problem document as OpenAI's error object.

    Args:
        problem: Has `status`, `detail`, `code`, `hint`, and optionally `errors`.
    """
    faults = problem.get("errors", [])
    status = status_under_v1(problem["status"])
    code = problem["code"]
    return {
        "error": {
            "message": f"{_message(problem['detail'], faults)} {problem['hint']}",
            "type": TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
            "param": next((name for fault in faults if (name := param_of(fault))), None),
            "code": CODES.get(code, code.replace("-", "_")),
        }
    }


def param_of(fault: Mapping[str, str]) -> str | None:
    """The parameter a fault is about, such as "messages.0.content"; None for the line of a file."""
    where, field = fault["where"], fault["field"]
    if where.startswith("line "):
        return None
    path = where.split(".")
    if field and path[-1] != field:
        path.append(field)
    # Drops the names that pydantic gives to the members of a union.
    path = [part for part in path[path[0] in PLACES :] if part.isidentifier() or part.isdigit()]
    return None if not path or path[0].isdigit() else ".".join(path)


def _message(detail: str, faults: Sequence[Mapping[str, str]]) -> str:
    """The detail, or the first five faults, for which an error object has no other place."""
    messages = [f"{param_of(fault) or _place(fault)}: found {fault['found']}; {fault['fix']}" for fault in faults]
    more = f" (and {len(messages) - SHOWN_FAULTS} more)" if len(messages) > SHOWN_FAULTS else ""
    text = " | ".join(messages[:SHOWN_FAULTS]) + more if messages else detail
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _place(fault: Mapping[str, str]) -> str:
    return f"{fault['where']}, {fault['field']}" if fault["field"] else fault["where"]
