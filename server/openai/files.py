"""Files: the datasets of /datasets under the other API's names. A file has the id of its dataset.

The same file sent again is the same dataset: it has the id it had.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from server.dependencies import Server
from server.openai.schemas import FileDeleted, FileObject, Page
from server.openai_errors import UnsupportedError
from server.services.datasets import keep_upload
from server.services.uploads import media_type, received
from server.store.datasets import DatasetRow
from steerzo_edge.errors import InputError

router = APIRouter(prefix="/files")
PURPOSE = "fine-tune"
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "purpose": {"type": "string", "enum": [PURPOSE]},
                },
            }
        }
    },
}


@router.post("", openapi_extra={"requestBody": _BODY})
async def upload_file(request: Request, server: Server) -> FileObject:
    """Takes a file of rows, checks every one of them, and keeps it as a dataset."""
    kind = media_type(request)
    if kind != "multipart/form-data":
        raise InputError(f"Content-Type is {kind or 'missing'!r}", hint="Send multipart/form-data.")
    async with received(request, server.directory.incoming()) as form:
        purpose = form.fields.get("purpose")
        if purpose != PURPOSE:
            raise UnsupportedError("purpose", purpose, f'files are for "{PURPOSE}" only')
        if any(key.startswith("expires_after") for key in form.fields):
            raise UnsupportedError("expires_after", "a policy", "files stay until they are deleted; leave it out")
        return _shown(await run_in_threadpool(keep_upload, server, form.file))


@router.get("")
def list_files(
    server: Server,
    purpose: Annotated[str | None, Query(max_length=100, description="Only files for it.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="At most so many.")] = 10_000,
    after: Annotated[str | None, Query(max_length=200, description="The last id of the page before.")] = None,
    order: Annotated[Literal["asc", "desc"], Query(description="By the time they came.")] = "desc",
) -> Page[FileObject]:
    """All files, newest first."""
    found = server.dataset_table.rows() if purpose in (None, PURPOSE) else []
    if order == "asc":
        found.reverse()
    if after is not None:
        last = server.dataset_table.get(after)
        found = found[1 + next((place for place, row in enumerate(found) if row.id == last.id), len(found)) :]
    shown = [_shown(row) for row in found[:limit]]
    first, final = (shown[0].id, shown[-1].id) if shown else (None, None)
    return Page(data=shown, first_id=first, last_id=final, has_more=len(found) > limit)


@router.get("/{file_id}")
def retrieve_file(file_id: str, server: Server) -> FileObject:
    """One file."""
    return _shown(server.dataset_table.get(file_id))


@router.get(
    "/{file_id}/content",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
def file_content(file_id: str, server: Server) -> Response:
    """A file as it came."""
    data = server.directory.bytes_of(server.dataset_table.get(file_id))
    return Response(data, media_type="application/octet-stream")


@router.delete("/{file_id}")
def delete_file(file_id: str, server: Server) -> FileDeleted:
    """Deletes a file, unless a job that has not ended was given it."""
    server.dataset_service.remove(file_id)
    return FileDeleted(id=file_id)


def _shown(row: DatasetRow) -> FileObject:
    facts: dict[str, Any] = row.facts
    return FileObject(id=row.id, bytes=facts["bytes"], created_at=int(row.created), filename=row.name)
