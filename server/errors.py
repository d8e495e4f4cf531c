"""The server's own error classes, and the HTTP status and problem document of every error.

The only place that maps an error class to an HTTP status.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from steerzo_edge.errors import (
    BusyError,
    CapacityError,
    ConflictError,
    Fault,
    InputError,
    NotFoundError,
    SteerzoError,
    StorageError,
)


class TooLargeError(InputError):
    """A body above the server's limit."""

    code = "too-large"
    hint = "Split the data, or raise the server's limit (max_upload_bytes, max_body_bytes)."


def media_type_error(found: str, *accepted: str, hint: str | None = None) -> InputError:
    """The error of a body whose Content-Type is missing, or names a type that the route does not read.

    Args:
        found: The media type of the request; "" if the header is missing.
        accepted: Media types that the route reads.
        hint: What to do next; None says what to send.
    """
    is_what = f"is {found!r}" if found else "is missing"
    send = f"Send the body with the header Content-Type: {' or '.join(accepted)}."
    return InputError(f"the header Content-Type {is_what}", hint=hint or send)


class UnauthorizedError(SteerzoError):
    """A request without a valid API key."""

    code = "unauthorized"
    hint = "Send the header `Authorization: Bearer KEY`."


class NotReadyError(BusyError):
    """The base model is still loading, or a part that the server needs does not work."""

    code = "not-ready"
    hint = "Ask GET /readyz until it answers 200."


class TooOftenError(BusyError):
    """More requests from one key or address than the rate limit allows.

    Args:
        retry_after_s: Seconds until the next request is allowed.
    """

    code = "too-often"
    hint = "Wait as long as Retry-After says; the operator sets requests_per_second."

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SlowBodyError(SteerzoError):
    """A request body that did not arrive in time."""

    code = "too-slow"
    hint = "Send the request again over a faster connection; the operator sets body_timeout_s."


class PromptTimeoutError(SteerzoError):
    """A prompt that was not read in time; if its answer has begun, the answer ends early instead."""

    code = "prompt-timeout"
    hint = "Try again when fewer prompts are waiting; the operator sets prompt_timeout_s."


class UnknownHostError(SteerzoError):
    """A request whose Host header does not name this server."""

    code = "unknown-host"
    hint = "Use localhost or the bound address, or have the operator add the name to STEERZO_ALLOWED_HOSTS."


class ForeignOriginError(SteerzoError):
    """A request that changes something, sent by a web page of another origin."""

    code = "foreign-origin"
    hint = "Send the request from a program, or from a page that this server serves."


class NoRoomError(StorageError):
    """The data directory has reached its quota, or its disk is nearly full."""

    code = "no-room"
    hint = "Delete datasets or jobs, free some space, or raise the server's quota (max_data_bytes, max_datasets)."


STATUS: dict[type[SteerzoError], int] = {
    TooLargeError: 413,
    InputError: 422,
    NotFoundError: 404,
    ConflictError: 409,
    NotReadyError: 503,
    BusyError: 429,
    CapacityError: 507,
    StorageError: 507,
    UnauthorizedError: 401,
    ForeignOriginError: 403,
    SlowBodyError: 408,
    PromptTimeoutError: 504,
    UnknownHostError: 421,
    SteerzoError: 500,
}


def status_of(error: SteerzoError) -> int:
    """The HTTP status of the nearest class in the error's MRO."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem_of(error: SteerzoError) -> dict[str, Any]:
    """The RFC 9457 problem document of an error, JSON-ready."""
    faults: Sequence[Fault] = getattr(error, "faults", ())
    status = status_of(error)
    document = {
        "type": f"urn:steerzo:problem:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": str(error),
        "code": error.code,
        "hint": error.hint,
    }
    return document | ({"errors": [fault.as_dict() for fault in faults]} if faults else {})
