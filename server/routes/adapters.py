"""Adapters: of jobs and uploaded, listed, renamed, deleted, fetched."""

from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from server.replies import AdapterReply, AdaptersReply, binary
from server.schemas import NameBody
from server.services.adapters import keep_adapter, remove_adapter, shown
from server.services.context import Adapter, Context, Server
from server.services.exports import exported
from server.services.sending import attachment, sent
from server.services.uploads import media_type, received
from server.services.zipped import opened, zipped
from server.store.adapters import AdapterRow
from steerzo_edge.errors import AdapterFileError, InputError
from steerzo_edge.export.forms import Form

router = APIRouter(tags=["adapters"])
_HINT = "curl -F file=@adapter.zip URL/adapters"
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {
                        "type": "string",
                        "format": "binary",
                        "description": "A zip of a PEFT directory, or its adapter_model.safetensors.",
                    },
                    "config": {"type": "string", "description": "adapter_config.json, where `file` is no zip."},
                    "name": {"type": "string", "description": "What to call it; by default after the file."},
                },
            }
        },
    },
}
Format = Annotated[
    Form,
    Query(description="A PEFT directory, a whole model in 16 bits, the same for llama.cpp, or the adapter for it."),
]


@router.post(
    "/adapters", status_code=201, openapi_extra={"requestBody": _BODY}, responses={201: {"model": AdapterReply}}
)
async def upload_adapter(request: Request, response: Response, server: Server) -> dict[str, Any]:
    """Takes a PEFT directory (LoRA, safetensors): as a zip, or as the fields `file` and `config`.

    It is checked against the loaded base before it is kept, and everything that is wrong with it is said at once.
    """
    kind = media_type(request)
    if kind != "multipart/form-data":
        raise InputError(f"Content-Type is {kind or 'missing'!r}", hint=_HINT)
    async with received(request, server.library.incoming(), hint=_HINT) as form:
        row = await run_in_threadpool(keep_adapter, server, form)
    response.headers["Location"] = f"/adapters/{row.id}"
    return shown(server, row)


@router.get("/adapters", responses={200: {"model": AdaptersReply}})
def list_adapters(server: Server) -> dict[str, Any]:
    """All adapters, newest first."""
    return {"adapters": [shown(server, row) for row in server.adapters.register.rows()]}


@router.get("/adapters/{adapter_id}", responses={200: {"model": AdapterReply}})
def show_adapter(adapter: Adapter, server: Server) -> dict[str, Any]:
    """One adapter, by any name that /generate takes."""
    return shown(server, adapter)


@router.patch("/adapters/{adapter_id}", responses={200: {"model": AdapterReply}})
def rename_adapter(adapter: Adapter, body: NameBody, server: Server) -> dict[str, Any]:
    """Calls an adapter something else."""
    return shown(server, server.adapters.register.rename(adapter.id, body.name))


@router.delete("/adapters/{adapter_id}", status_code=204)
def delete_adapter(adapter: Adapter, server: Server) -> Response:
    """Deletes an adapter; answers that are under way finish with it. A job stays when its adapter goes."""
    remove_adapter(server, adapter)
    return Response(status_code=204)


@router.get("/adapters/{adapter_id}/download", response_class=Response, responses=binary("application/zip"))
async def download_adapter(request: Request, adapter: Adapter, server: Server, format: Format = "peft") -> Response:
    """A zip: the PEFT directory, base and adapter merged in 16 bits, or a GGUF file of either."""
    return await adapter_zip(request, server, adapter, format)


async def adapter_zip(
    request: Request, server: Context, row: AdapterRow, form: Form, *, name: str | None = None
) -> Response:
    """An adapter in some form, as a zip.

    Args:
        request: Who asks; an export ends when its client leaves.
        server: The server's parts.
        row: Which.
        form: "peft" is the directory as it is kept.
        name: Of the file, without its suffix; by default the adapter's id.

    Raises:
        AdapterFileError: If its files are gone.
        ConflictError: If it cannot be had in that form.
        BusyError: If another export is under way, or still being sent.
        NoRoomError: If the disk or the quota does not hold it.
    """
    if form != "peft":
        return await sent(request, partial(exported, server, row, form), f"{name or row.id}-{form}")
    try:
        pieces = zipped(await run_in_threadpool(opened, server.adapters.files.directory(row)))
    except FileNotFoundError:
        raise AdapterFileError(f"the files of adapter {row.id} are gone") from None
    return zip_response(pieces, name or row.id, {"X-Adapter-SHA256": row.sha256})


def zip_response(pieces: Iterable[bytes], name: str, headers: dict[str, str]) -> Response:
    """A zip that is sent as it is made."""
    return StreamingResponse(pieces, media_type="application/zip", headers={**attachment(name), **headers})
