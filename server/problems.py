"""Renders errors as responses: RFC 9457 problem documents, or OpenAI's error object under /v1."""

import json
import logging
import math
import sqlite3
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from server.errors import SlowBodyError, TooLargeError, media_type_error, problem_of, status_of
from server.openai_errors import error_object, is_openai, status_under_v1
from server.system_errors import known_error_of
from steerzo_edge.config import fault_of, faults_of
from steerzo_edge.errors import BusyError, CapacityError, InputError, SteerzoError, StorageError

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
UNEXPECTED = "an unexpected error; the server's log has the details"


def respond(error: SteerzoError, path: str) -> Response:
    """The error as a response.

    Args:
        error: The error.
        path: The request's path; it decides between a problem document and OpenAI's error object.
    """
    document = problem_of(error)
    status = document["status"]
    headers: dict[str, str] = {}
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["Retry-After"] = str(math.ceil(getattr(error, "retry_after_s", RETRY_AFTER_S)))
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status == HTTPStatus.REQUEST_TIMEOUT:
        headers["Connection"] = "close"
    return _rendered(document, headers, path)


def install(app: FastAPI) -> None:
    """Makes every error of an app a problem document, or OpenAI's error object under /v1."""
    app.add_exception_handler(OSError, _system_error)
    app.add_exception_handler(sqlite3.Error, _system_error)
    app.add_exception_handler(SteerzoError, _steerzo_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _unexpected_error)


async def _steerzo_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SteerzoError)
    if status_of(error) >= 500 and not isinstance(error, BusyError | CapacityError | StorageError):
        log.error("a request failed", exc_info=error)
    return respond(error, request.url.path)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, bytes):  # FastAPI reads a body as JSON only if the header says that it is
        return respond(
            media_type_error(request.headers.get("content-type", ""), "application/json"), request.url.path
        )
    details = error.errors()
    faults = [fault_of(detail) for detail in details if detail["loc"][0] != "body"]
    faults += faults_of([detail for detail in details if detail["loc"][0] == "body"], {"body": error.body})
    return respond(InputError("; ".join(map(str, faults)), faults=faults), request.url.path)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return respond(TooLargeError(str(error.detail)), request.url.path)
    if error.status_code == HTTPStatus.REQUEST_TIMEOUT:
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


async def _unexpected_error(request: Request, error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return respond(SteerzoError(UNEXPECTED), request.url.path)


async def _system_error(request: Request, error: Exception) -> Response:
    """Answers 507 when disk, database or memory failed, on whichever route; anything else is unexpected."""
    known = known_error_of(error)
    if known is None:
        return await _unexpected_error(request, error)
    log.warning("a request failed: %s", known)
    return respond(known, request.url.path)


def _rendered(document: dict[str, Any], headers: Mapping[str, str] | None, path: str) -> Response:
    """Renders in ASCII: a quoted piece of a request may hold half a surrogate pair, which UTF-8 cannot encode."""
    status = document["status"]
    if not is_openai(path):
        return Response(json.dumps(document), status, headers=headers, media_type=MEDIA_TYPE)
    # OpenAI's client retries a 409 by itself, but a conflict here (such as an ended job) does not pass in seconds.
    no_retry = {"X-Should-Retry": "false"} if status == HTTPStatus.CONFLICT else {}
    return Response(
        json.dumps(error_object(document)),
        status_under_v1(status),
        headers={**(headers or {}), **no_retry},
        media_type="application/json",
    )
