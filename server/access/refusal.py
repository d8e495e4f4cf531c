"""Answers a request with an error, without calling the app."""

from starlette.types import Receive, Scope, Send

from server.problems import respond
from steerzo_edge.errors import SteerzoError


async def refuse(error: SteerzoError, scope: Scope, receive: Receive, send: Send) -> None:
    """Sends an error as the response: a problem document, or OpenAI's error object under /v1."""
    await respond(error, scope["path"])(scope, receive, send)
