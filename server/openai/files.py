"""Files: the datasets of /datasets, under the names of OpenAI's API. A file has the id of its dataset.

Uploading the same file again returns the same dataset.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from server.dependencies import Server
from server.openai.schemas import FileDeleted, FileObject, Page
from server.openai_errors import UnsupportedError
from server.services.datasets import keep_upload
from server.services.uploads import check_media_type, received
from server.store.datasets import DatasetRow

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
    """Uploads a file of rows; every row is checked before the file is stored as a dataset."""
    check_media_type(request, "multipart/form-data")
    async with received(request, server.directory.incoming()) as form:
        purpose = form.fields.get("purpose")
        if purpose != PURPOSE:
            raise UnsupportedError("purpose", purpose, f'the only purpose is "{PURPOSE}"')
        if any(key.startswith("expires_after") for key in form.fields):
            raise UnsupportedError("expires_after", "a policy", "files never expire; leave it out")
        return _file_object(await run_in_threadpool(keep_upload, server, form.file))


@router.get("")
def list_files(
    server: Server,
    purpose: Annotated[str | None, Query(max_length=100, description="Only files with this purpose.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Most files to list.")] = 10_000,
    after: Annotated[str | None, Query(max_length=200, description="The last id of the previous page.")] = None,
    order: Annotated[Literal["asc", "desc"], Query(description="Order by upload time.")] = "desc",
) -> Page[FileObject]:
    """All files, by default newest first."""
    found = server.dataset_table.rows() if purpose in (None, PURPOSE) else []
    if order == "asc":
        found.reverse()
    if after is not None:
        last = server.dataset_table.get(after)
        found = found[1 + next((place for place, row in enumerate(found) if row.id == last.id), len(found)) :]
    files = [_file_object(row) for row in found[:limit]]
    first, final = (files[0].id, files[-1].id) if files else (None, None)
    return Page(data=files, first_id=first, last_id=final, has_more=len(found) > limit)


@router.get("/{file_id}")
def retrieve_file(file_id: str, server: Server) -> FileObject:
    """One file."""
    return _file_object(server.dataset_table.get(file_id))


@router.get(
    "/{file_id}/content",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
def file_content(file_id: str, server: Server) -> Response:
    """A file's bytes, unchanged."""
    data = server.directory.bytes_of(server.dataset_table.get(file_id))
    return Response(data, media_type="application/octet-stream")


@router.delete("/{file_id}")
def delete_file(file_id: str, server: Server) -> FileDeleted:
    """Deletes a file, unless a job that has not ended uses it."""
    server.dataset_service.remove(file_id)
    return FileDeleted(id=file_id)


def _file_object(row: DatasetRow) -> FileObject:
    facts: dict[str, Any] = row.facts
    return FileObject(
        id=row.id,
        bytes=facts["bytes"],
        created_at=int(row.created),
        filename=row.name,
        ignored=facts.get("ignored", {}),  # datasets of older versions have no such facts
        warnings=facts.get("warnings", []),
    )
