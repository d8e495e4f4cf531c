"""Serves the files of the page: a fixed list, the same for every client."""

from typing import Final

from fastapi import APIRouter, Request, Response

from server.routes.page_files import page_files
from steerzo_edge.errors import NotFoundError

router = APIRouter()
# Nothing from other origins, nothing inline, no form submissions, no text used as a script.
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
@router.api_route("/page/{name:path}", methods=["GET", "HEAD"], include_in_schema=False)
async def page_file(request: Request) -> Response:
    """One file of the page; 304 if the browser's copy is current."""
    file = page_files().get(request.url.path)
    if file is None:
        raise NotFoundError("the page has no such file", hint="GET / is the page.")
    headers = {"ETag": file.etag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.body, media_type=file.media_type, headers=headers)
