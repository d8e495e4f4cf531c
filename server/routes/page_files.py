"""The page's files, read into memory once, so that no path from a request is ever opened on the disk.

    server/page/index.html     /
    server/page/js/main.js     /page/js/main.js

They contain no data, so they need no key; the data on the page comes from the API, which needs one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Final

PAGE_DIRECTORY: Final = Path(__file__).parents[1] / "page"
INDEX: Final = "index.html"
MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page.

    Args:
        body: Its bytes.
        media_type: The value of the Content-Type header.
        etag: The value of the ETag header, a hash of the bytes.
    """

    body: bytes
    media_type: str
    etag: str


@cache
def page_files() -> Mapping[str, PageFile]:
    """Every file by its URL path."""
    found = {}
    for path in sorted(PAGE_DIRECTORY.rglob("*")):
        if path.suffix in MEDIA_TYPES:
            name = path.relative_to(PAGE_DIRECTORY).as_posix()
            body = path.read_bytes()
            file = PageFile(body, MEDIA_TYPES[path.suffix], f'"{sha256(body).hexdigest()[:32]}"')
            found["/" if name == INDEX else f"/page/{name}"] = file
    return MappingProxyType(found)
