"""Responses of server-sent events that are encoded already."""

from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse


class EventStream(StreamingResponse):
    """Sends encoded server-sent events.

    FastAPI's own class would encode every event again for each reader.

    Args:
        events: Encoded events, one or many at a time.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        # Keeps caches and proxies from holding events back.
        super().__init__(events, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
