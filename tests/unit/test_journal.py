"""The journal: durable, checksummed, torn at most at its end."""

import gc
import tracemalloc
import zlib
from pathlib import Path

import pytest

from steerzo_edge.errors import JournalError
from steerzo_edge.objectives.evaluation import Evaluation
from steerzo_edge.records import EvalRecord, StepRecord
from steerzo_edge.training.progress import Progress
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.journal import Header, Journal

HEADER = Header(
    seed=1, size=10, base="b", data="d", validation=None, noise="n", device="cpu", profile={"steps": 3}, versions={}
)


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of thousands of lines: each is written, and the disk is not waited for."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


def step(index: int) -> Entry:
    record = StepRecord(index, 1.5 / (index + 1), -0.1, 1e-3, 1e-2, 2 * index, 7, 0.25, 0)
    return Entry(record, Direction(((4_000_000_000, 0.1 + index), (2, -1 / 3))), {"best": 2**32 - 1})


def written(path: Path, count: int = 3) -> list[Entry]:
    entries: list[Entry] = [step(index) for index in range(count)]
    entries.append(Entry(EvalRecord(count, 0.5, 0.25, 8, True, {"accuracy": 0.25, "f1": 1 / 3}, 1 / 3)))
    with Journal.create(path, HEADER) as journal:
        for entry in entries:
            journal.append(entry)
    return entries


def test_a_journal_is_read_back_exactly(tmp_path: Path) -> None:
    entries = written(tmp_path / "journal")
    header, found = Journal.read(tmp_path / "journal")
    assert header == HEADER
    assert list(found) == entries
    assert [found[index] for index in range(len(found))] == entries
    assert found[-1] == entries[-1]
    assert found[1:3] == entries[1:3]
    with pytest.raises(IndexError):
        found[len(entries)]


def test_an_evaluation_from_before_there_were_metrics(tmp_path: Path) -> None:
    text = b'{"kind":"eval","step":3,"loss":0.5,"accuracy":0.25,"examples":8,"best":true}'
    path = tmp_path / "journal"
    written(path, 0)
    header = path.read_bytes().partition(b"\n")[0]
    path.write_bytes(header + b"\n%08x %s\n" % (zlib.crc32(text), text))
    (entry,) = Journal.read(path)[1]
    assert entry.record == EvalRecord(3, 0.5, 0.25, 8, True)
    progress = Progress.of([entry])
    assert not progress.improves(Evaluation(0.4, 0.2, 8, {"accuracy": 0.2}, 0.2))
    assert progress.improves(Evaluation(0.6, 0.3, 8, {"accuracy": 0.3}, 0.3))
    assert progress.improves(Evaluation(0.4, 0.25, 8, {"accuracy": 0.25}, 0.25))


def test_a_skipped_step_is_kept_with_its_reason(tmp_path: Path) -> None:
    entry = Entry(StepRecord(0, None, 0.0, 1e-3, 1e-2, 2, 7, 0.1, 2, "no number"), Direction())
    with Journal.create(tmp_path / "journal", HEADER) as journal:
        journal.append(entry)
    assert list(Journal.read(tmp_path / "journal")[1]) == [entry]


@pytest.mark.usefixtures("no_sync")
def test_every_truncation_loses_at_most_the_torn_record(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    entries = written(path)
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(ends[0], len(whole) + 1):
        path.write_bytes(whole[:length])
        kept = sum(end <= length for end in ends) - 1
        with Journal.reopen(path) as journal:
            assert list(journal.entries) == entries[:kept]
            journal.append(step(9))
        assert list(Journal.read(path)[1]) == [*entries[:kept], step(9)]


def test_damage_in_the_middle_is_an_error_not_a_guess(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path)
    data = bytearray(path.read_bytes())
    data[data.index(b"\n") + 30] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(JournalError, match="line 2 is damaged"):
        Journal.reopen(path)


@pytest.mark.parametrize("data", [b"", b"no journal\n", b"00000000 {}\n"])
def test_a_file_that_is_no_journal(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(data)
    with pytest.raises(JournalError, match="header"):
        Journal.reopen(path)


def test_an_unknown_journal_format_is_refused_by_name(tmp_path: Path) -> None:
    with Journal.create(tmp_path / "journal", HEADER.model_copy(update={"format": 9})):
        pass
    with pytest.raises(JournalError, match="format 9"):
        Journal.read(tmp_path / "journal")


@pytest.mark.usefixtures("no_sync")
def test_a_long_run_holds_no_lines(tmp_path: Path) -> None:
    with Journal.create(tmp_path / "journal", HEADER) as journal:
        tracemalloc.start()
        try:
            for index in range(500):
                journal.append(step(index))
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            for index in range(2000):
                journal.append(step(index))
            gc.collect()
            held = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert held < 20 * 2000
    assert (tmp_path / "journal").stat().st_size > 200 * 2500


def test_a_line_that_is_damaged_later_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path)
    with Journal.reopen(path) as journal:
        data = bytearray(path.read_bytes())
        data[data.rindex(b"{") + 5] ^= 1
        path.write_bytes(bytes(data))
        assert journal.entries[0] == step(0)
        with pytest.raises(JournalError, match="damaged"):
            list(journal.entries)
