"""Routes of adapters: upload, list, rename, delete, download."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from server.dependencies import Adapter, Server
from server.routes.replies import AdapterReply, AdaptersReply, binary
from server.services.adapters import adapter_reply, keep_adapter, remove_adapter
from server.services.downloads import adapter_download
from server.services.request_bodies import NameBody
from server.services.uploads import check_media_type, received
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
                    "config": {
                        "type": "string",
                        "description": "The text of adapter_config.json, if `file` is not a zip.",
                    },
                    "name": {"type": "string", "description": "Its name; by default made from the file's."},
                },
            }
        },
    },
}
Format = Annotated[
    Form,
    Query(
        description="A PEFT directory, the merged model in 16 bits, a GGUF file of the merged model or adapter, or "
        "a directory for Ollama."
    ),
]


@router.post(
    "/adapters", status_code=201, openapi_extra={"requestBody": _BODY}, responses={201: {"model": AdapterReply}}
)
async def upload_adapter(request: Request, response: Response, server: Server) -> dict[str, Any]:
    """Uploads a PEFT directory (LoRA, safetensors): as a zip, or as the fields `file` and `config`.

    It is checked against the loaded base before it is stored; the answer lists everything that is wrong with it.
    """
    check_media_type(request, "multipart/form-data", hint=_HINT)
    async with received(request, server.directory.incoming(), hint=_HINT) as form:
        row = await run_in_threadpool(keep_adapter, server, form)
    response.headers["Location"] = f"/adapters/{row.id}"
    return adapter_reply(server, row)


@router.get("/adapters", responses={200: {"model": AdaptersReply}})
def list_adapters(server: Server) -> dict[str, Any]:
    """All adapters, newest first."""
    return {"adapters": [adapter_reply(server, row) for row in server.adapters.table.rows()]}


@router.get("/adapters/{adapter_id}", responses={200: {"model": AdapterReply}})
def show_adapter(adapter: Adapter, server: Server) -> dict[str, Any]:
    """One adapter, by any name that /generate takes."""
    return adapter_reply(server, adapter)


@router.patch("/adapters/{adapter_id}", responses={200: {"model": AdapterReply}})
def rename_adapter(adapter: Adapter, body: NameBody, server: Server) -> dict[str, Any]:
    """Renames an adapter."""
    return adapter_reply(server, server.adapters.table.rename(adapter.id, body.name))


@router.delete("/adapters/{adapter_id}", status_code=204)
def delete_adapter(adapter: Adapter, server: Server) -> Response:
    """Deletes an adapter; answers under way finish with it. The job that made it is not deleted."""
    remove_adapter(server, adapter)
    return Response(status_code=204)


@router.get("/adapters/{adapter_id}/download", response_class=Response, responses=binary("application/zip"))
async def download_adapter(request: Request, adapter: Adapter, server: Server, format: Format = "peft") -> Response:
    """A zip: the PEFT directory, base and adapter merged in 16 bits, or a GGUF file of either."""
    return await adapter_download(request, server, adapter, format)
