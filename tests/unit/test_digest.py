"""The hash of a large file, by pieces."""

import os
from pathlib import Path

from steerzo_edge.storage import digest


def test_a_digest_is_the_same_in_one_piece_and_in_many(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = os.urandom(2 * digest.PIECE + 12345)
    path.write_bytes(data)
    whole, parts = digest.Digest(), digest.Digest()
    whole.update(memoryview(data))
    for begin in range(0, len(data), 77_777):
        parts.update(memoryview(data)[begin : begin + 77_777])
    with path.open("rb") as file:
        expected = digest.digest_of(file.fileno())
    assert whole.hexdigest() == parts.hexdigest() == expected
    path.write_bytes(data[:-1])
    with path.open("rb") as file:
        assert digest.digest_of(file.fileno()) != expected
