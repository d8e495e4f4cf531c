"""Errors as RFC 9457 problem documents; under /v1 as OpenAI's error object.

The only place that knows both error classes and HTTP status.
"""

import json
import logging
import math
import sqlite3
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from server.faults import known_error_of
from server.openai_errors import error_object, is_openai, status_under_v1
from steerzo_edge.config import fault_of
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

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
TOO_LARGE = 413
TOO_SLOW = 408


class TooLargeError(InputError):
    """A body above the server's limit."""

    code = "too-large"
    hint = "Split the data, or raise the server's limit (max_upload_bytes, max_body_bytes)."


class UnauthorizedError(SteerzoError):
    """A request without the key."""

    code = "unauthorized"
    hint = "Send the header `Authorization: Bearer KEY`."


class NotReadyError(BusyError):
    """The base model is still loading, or something that is needed does not work."""

    code = "not-ready"
    hint = "Ask GET /readyz until it answers 200."


class TooOftenError(BusyError):
    """More requests than the server takes from one key or address."""

    code = "too-often"
    hint = "Wait as long as Retry-After says; the operator sets requests_per_second."

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SlowBodyError(SteerzoError):
    """A body that did not arrive in time."""

    code = "too-slow"
    hint = "Send the request again over a faster connection; the operator sets body_timeout_s."


class PromptTimeoutError(SteerzoError):
    """A prompt that was not read in time; one whose answer has begun ends with what there is."""

    code = "prompt-timeout"
    hint = "Try again when fewer prompts are waiting; the operator sets prompt_timeout_s."


class UnknownHostError(SteerzoError):
    """A request for a name that is not this server's."""

    code = "unknown-host"
    hint = "Use localhost or the bound address, or have the operator add the name to STEERZO_ALLOWED_HOSTS."


class ForeignOriginError(SteerzoError):
    """A web page of another origin tries to change something."""

    code = "foreign-origin"
    hint = "Send the request from a program, or from a page that this server serves."


class NoRoomError(StorageError):
    """The data directory may not grow any more."""

    code = "no-room"
    hint = "Delete datasets or jobs, free some space, or raise the server's quota (max_data_bytes, max_datasets)."


STATUS: dict[type[SteerzoError], int] = {
    TooLargeError: TOO_LARGE,
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


def problem_of(error: SteerzoError) -> dict[str, Any]:
    """The problem document of an error."""
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


def status_of(error: SteerzoError) -> int:
    """The status of the nearest class in the error's MRO."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def respond(error: SteerzoError, path: str) -> Response:
    """The error as a response.

    Args:
        error: What went wrong.
        path: Of the request: it decides which kind of document is sent.
    """
    document = problem_of(error)
    retry_after_s = math.ceil(getattr(error, "retry_after_s", RETRY_AFTER_S))
    headers = {"Retry-After": str(retry_after_s)} if document["status"] in (429, 503) else {}
    if document["status"] == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if document["status"] == TOO_SLOW:
        headers["Connection"] = "close"
    return _rendered(document, headers, path)


def _rendered(document: dict[str, Any], headers: Mapping[str, str] | None, path: str) -> Response:
    """In ASCII: what is quoted from a request may hold half of a surrogate pair, which UTF-8 lacks."""
    status = document["status"]
    if not is_openai(path):
        return Response(json.dumps(document), status, headers=headers, media_type=MEDIA_TYPE)
    # The client tries a conflict again by itself; a job that has ended will not be less so in a second.
    firm = {"X-Should-Retry": "false"} if status == HTTPStatus.CONFLICT else {}
    return Response(
        json.dumps(error_object(document)),
        status_under_v1(status),
        headers={**(headers or {}), **firm},
        media_type="application/json",
    )


def install(app: FastAPI) -> None:
    """Makes every error of an app a problem document."""

    async def steerzo(request: Request, error: Exception) -> Response:
        assert isinstance(error, SteerzoError)
        if status_of(error) >= 500 and not isinstance(error, BusyError | CapacityError | StorageError):
            log.error("a request failed", exc_info=error)
        return respond(error, request.url.path)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [fault_of(detail) for detail in error.errors()]
        return respond(InputError("; ".join(map(str, faults)), faults=faults), request.url.path)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == TOO_LARGE:
            return respond(TooLargeError(str(error.detail)), request.url.path)
        if error.status_code == TOO_SLOW:
            return respond(SlowBodyError(str(error.detail)), request.url.path)
        document = {
            "type": "about:blank",
            "title": HTTPStatus(error.status_code).phrase,
            "status": error.status_code,
            "detail": str(error.detail),
            "code": HTTPStatus(error.status_code).name.lower().replace("_", "-"),
            "hint": "GET /docs lists every route and method.",
        }
        return _rendered(document, error.headers, request.url.path)

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("a request failed", exc_info=error)
        return respond(SteerzoError("an unexpected error; the server's log has the details"), request.url.path)

    async def machine(request: Request, error: Exception) -> Response:
        """A full disk is the machine's trouble, whichever route has met it."""
        known = known_error_of(error)
        if known is None:
            return await unexpected(request, error)
        log.warning("a request failed: %s", known)
        return respond(known, request.url.path)

    app.add_exception_handler(OSError, machine)
    app.add_exception_handler(sqlite3.Error, machine)
    app.add_exception_handler(SteerzoError, steerzo)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)
