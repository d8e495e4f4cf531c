"""What a wrapper answers in the place of the app."""

from starlette.types import Receive, Scope, Send

from server.problems import respond
from steerzo_edge.errors import SteerzoError


async def refuse(error: SteerzoError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a request with an error, in the shape that its path has for errors."""
    await respond(error, scope["path"])(scope, receive, send)
