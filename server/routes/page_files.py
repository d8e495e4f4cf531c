"""The page's files, read into memory once: no path of a request ever touches the disk.

    server/page/index.html     /
    server/page/js/main.js     /page/js/main.js

They hold no data, so they need no key; what the page shows comes from the API, which does.
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
        media_type: For the Content-Type header.
        etag: Changes whenever the bytes do.
    """

    body: bytes
    media_type: str
    etag: str


@cache
def page_files() -> Mapping[str, PageFile]:
    """Every file by the path it is asked for with."""
    found = {}
    for path in sorted(PAGE_DIRECTORY.rglob("*")):
        if path.suffix in MEDIA_TYPES:
            name = path.relative_to(PAGE_DIRECTORY).as_posix()
            body = path.read_bytes()
            file = PageFile(body, MEDIA_TYPES[path.suffix], f'"{sha256(body).hexdigest()[:32]}"')
            found["/" if name == INDEX else f"/page/{name}"] = file
    return MappingProxyType(found)
