"""An upload is what was sent, however its bytes were cut into pieces, and takes no memory."""

import asyncio
import hashlib
import tracemalloc
from collections.abc import Iterable
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from hypothesis import assume, given
from hypothesis import strategies as st

from server.services.uploads import received
from tests.properties.tries import tried


@tried(300)
@given(
    st.binary(max_size=300) | st.lists(st.sampled_from([b"\r\n", b"--", b"--x", b"\r\n--x", b"a"])).map(b"".join),
    st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_an_upload_is_what_was_sent_however_it_was_cut(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, sizes: list[int]
) -> None:
    assume(b"\r\n--x1" not in content)
    assume(not content.startswith(b"--x1"))
    head = b'--x1\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    name = b'\r\n--x1\r\nContent-Disposition: form-data; name="name"\r\n\r\nrows\r\n--x1--\r\n'
    body = head + content + name
    cuts = [0]
    while cuts[-1] < len(body):
        cuts.append(cuts[-1] + sizes[len(cuts) % len(sizes)])
    chunks = [body[start:end] for start, end in pairwise(cuts)]
    path = tmp_path_factory.getbasetemp() / "upload"

    async def read() -> None:
        async with received(request_of(chunks), path) as form:
            assert form.fields == {"name": "rows"}
            assert (form.file.name, form.file.bytes) == ("a.csv", len(content))
            assert form.file.path.read_bytes() == content
            assert form.file.sha256 == hashlib.sha256(content).hexdigest()

    asyncio.run(read())
    assert not path.exists()


def test_an_upload_takes_no_memory(tmp_path: Path) -> None:
    chunk = b"x" * (64 << 10)
    head = b'--x1\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    chunks = chain([head], repeat(chunk, 512), [b"\r\n--x1--\r\n"])

    async def read() -> int:
        async with received(request_of(chunks), tmp_path / "upload") as form:
            return form.file.bytes

    tracemalloc.start()
    try:
        size = asyncio.run(read())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 512 * len(chunk)
    assert peak < 2 << 20


def request_of(chunks: Iterable[bytes]) -> Request:
    body = ({"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks)
    waiting = chain(body, [{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        return next(waiting)

    headers = [(b"content-type", b"multipart/form-data; boundary=x1")]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)
