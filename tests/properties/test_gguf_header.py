"""Damaged GGUF files: the header is read, or refused in words."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.gguf.header import read_header
from tests.gguf_file import gguf_of
from tests.properties.tries import tried

HEADER = 6_000


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a whole file."""
    return gguf_of(tmp_path_factory.mktemp("gguf") / "whole.gguf").parent


@tried(100)
@given(
    changes=st.lists(st.tuples(st.integers(0, HEADER), st.binary(min_size=1, max_size=8)), max_size=4),
    end=st.none() | st.integers(0, HEADER),
)
def test_whatever_is_damaged(directory: Path, changes: list[tuple[int, bytes]], end: int | None) -> None:
    data = bytearray((directory / "whole.gguf").read_bytes()[:end])
    for place, value in changes:
        data[place : place + len(value)] = value
    path = directory / "damaged.gguf"
    path.write_bytes(data)
    with suppress(BaseModelError):
        header = read_header(path, name="x")
        assert all(place.begin + place.size <= len(data) for place in header.tensors.values())
