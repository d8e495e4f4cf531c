"""The outermost wrapper: gives every request an id and every response its headers, and logs and counts both."""

import json
import logging
import time
from http import HTTPStatus
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.access.refusal import refuse
from server.ids import ID, new_id
from server.logs import REQUEST
from server.metrics import METHODS, Metrics
from server.openai_errors import PREFIX, is_openai
from server.problems import UNEXPECTED
from steerzo_edge.errors import SteerzoError

log = logging.getLogger(__name__)
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
UNMATCHED: Final = "none"


class RequestLog:
    """Logs and counts requests, and answers 500 where the app fails.

    Args:
        app: The wrapped app, every other wrapper included.
        metrics: Counts requests and errors.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(new_id("req"), send)
        token = REQUEST.set(answer.request)
        try:
            await self._app(scope, receive, answer.send)
        except Exception as error:  # a bug: the client gets a 500, the log the traceback
            log.error("a request failed", exc_info=error)
            if answer.status is not None:  # the response has begun: its stream breaks off
                raise
            await refuse(SteerzoError(UNEXPECTED), scope, receive, answer.send)
        finally:
            self._count(scope, answer)
            REQUEST.reset(token)

    def _count(self, scope: Scope, answer: "_Answer") -> None:
        method, route, status = scope["method"], template(scope), answer.status or 499
        self._metrics.requested(method, route, status, answer.seconds)
        if answer.code is not None:
            self._metrics.failed("http", answer.code)
        level = logging.INFO if method not in ("GET", "HEAD") or status >= 400 else logging.DEBUG
        fields: dict[str, Any] = {"status": status, "ms": round(answer.seconds * 1000, 1)}
        if answer.code is not None:
            fields["code"] = answer.code
        job = scope.get("path_params", {}).get("job_id", "")
        extra = {"fields": fields, "job": job if ID.fullmatch(job) else None}
        log.log(level, "%s %s", method if method in METHODS else "?", route, extra=extra)


class _Answer:
    """A response while it is sent."""

    def __init__(self, request: str, send: Send) -> None:
        self.request = request
        self.status: int | None = None
        self.code: str | None = None
        self._send = send
        self._began = time.perf_counter()
        self._head_s: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds until the response's head was sent, or until now."""
        return time.perf_counter() - self._began if self._head_s is None else self._head_s

    async def send(self, message: Message) -> None:
        """Sends one message of the response, with the headers and the id added."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._head_s = self.seconds
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers["X-Request-ID"] = self.request
        elif self.status is not None and self.status >= 400 and self.code is None:
            self.code = _code(message.get("body", b"")) or HTTPStatus(self.status).name.lower().replace("_", "-")
        await self._send(message)


def template(scope: Scope) -> str:
    """The template of a request's route, such as "/jobs/{job_id}"; the path itself may hold text of users."""
    route = getattr(scope.get("route"), "path", None)
    if route is None:
        return UNMATCHED
    # A route's path lacks the prefix that its router was included with.
    return f"{PREFIX}{route}" if is_openai(scope["path"]) else str(route)


def _code(body: bytes) -> str | None:
    """The code in a problem document or in OpenAI's error object; None if there is none."""
    try:
        document = json.loads(body)
    except ValueError:
        return None
    inner = document.get("error", document) if isinstance(document, dict) else None
    code = inner.get("code") if isinstance(inner, dict) else None
    return code if isinstance(code, str) else None
