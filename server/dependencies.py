"""FastAPI dependencies: the context, the job or adapter that a path names, and checks before a request is served.

Both `routes` and `openai` use them.
"""

import asyncio
from functools import partial
from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from server.services.context import Context
from server.services.quota import STORING_PATHS
from server.store.adapters import AdapterRow
from server.store.rows import JobRow


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Server = Annotated[Context, Depends(_context)]


def _job(job_id: str, server: Server) -> JobRow:
    return server.job_table.get(job_id)


Job = Annotated[JobRow, Depends(_job)]


def _adapter(adapter_id: str, server: Server) -> AdapterRow:
    return server.adapters.names.find(adapter_id).stored()


Adapter = Annotated[AdapterRow, Depends(_adapter)]


async def check_quota(request: Request, server: Server) -> None:
    """Rejects requests that would store data when the quota is used up.

    Raises:
        NoRoomError: If the request's body does not fit into the data directory.
    """
    if request.method == "POST" and request.url.path in STORING_PATHS:
        length = request.headers.get("content-length", "0")
        size = int(length) if length.isdecimal() else 0
        datasets = request.url.path != "/adapters"
        await run_in_threadpool(partial(server.quota.check, size, datasets=datasets))


async def throttled(server: Server) -> None:
    """Delays job submissions while a job trains.

    Raises:
        BusyError: If too many submissions wait already.
    """
    if server.device.is_training:
        await asyncio.sleep(server.submit_throttle.wait_s())
