"""Reads a file of rows into a Dataset, or raises one error naming every bad row.

The format is recognized by the fields, in a first pass of its own, so that only examples are ever kept in memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from steerzo_edge.data.containers import Source, source_of
from steerzo_edge.data.examples import Dataset, Example, Remarks
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.formats import kind_of
from steerzo_edge.data.kinds import KINDS, RowKind, named_kind
from steerzo_edge.data.mapping import mapped
from steerzo_edge.data.meanings import refuse_given, refuse_weight
from steerzo_edge.data.remarks import RemarksSoFar
from steerzo_edge.data.rows import Faults, Row, is_text, line_of, shown
from steerzo_edge.data.task import Task
from steerzo_edge.data.tasks import BenchmarkTask, benchmark_task
from steerzo_edge.errors import DatasetError, Fault, TaskError

SHOWN_FAULTS = 100
# In some benchmarks each answer becomes an example that repeats its passage, so a small file may become a huge
# dataset. The largest real one, ReCoRD's training file, is about 100,000 examples of 200 million characters.
MOST_EXAMPLES = 1_000_000
MOST_CHARACTERS = 256 << 20
_ONE_TASK = "Leave out the template and options, or the benchmark task."
# If no line is an object, no kind can be recognized; the file is read as this one, only to report the faults.
_UNRECOGNIZED = KINDS["completion"]
ExamplesOf = Callable[[Fields], Iterable[Example]]


def read_dataset(
    data: bytes,
    *,
    name: str = "dataset",
    task: Task | None = None,
    benchmark: str | None = None,
    format: str | None = None,
    first: int | None = None,
    names: Mapping[str, str] | None = None,
) -> Dataset:
    """Reads a file.

    Args:
        data: Its bytes, in one of the containers of `containers.py`.
        name: Its name; ".csv" and ".tsv" are read as CSV, any other text is recognized by its first character.
        task: How labelled rows are put to the model.
        benchmark: The benchmark task whose published files have these fields; None reads one of the kinds of rows.
        format: Name of the kind of rows; None recognizes it by the fields.
        first: How many rows to read; None reads and checks all.
        names: Names that a format needs, and those in the file (see `mapping.py`); None takes all as they are.

    Raises:
        DatasetError: If it is empty, not text, of no known format, or has bad rows.
        TaskError: If there is no such benchmark task, or a task or a format is given as well.
    """
    source = source_of(data, name, first)
    return _dataset(mapped(source, names) if names else source, name, task, benchmark, format, first)


def read_rows(
    rows: Sequence[Any],
    *,
    name: str = "rows",
    task: Task | None = None,
    benchmark: str | None = None,
    format: str | None = None,
    names: Mapping[str, str] | None = None,
) -> Dataset:
    """Reads rows that came inside a JSON body; they are numbered from 1.

    Raises:
        DatasetError: As `read_dataset`.
        TaskError: As `read_dataset`.
    """
    if not rows:
        raise DatasetError(f"{name}: no rows", hint="Send at least one row.")
    source = Source(partial(_objects, rows), "JSON")
    return _dataset(mapped(source, names) if names else source, name, task, benchmark, format, None)


def _objects(rows: Sequence[Any], faults: Faults) -> Iterator[Row]:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            faults.append(Fault(f"line {number}", "", shown(row), "every row must be a JSON object"))
        elif is_text(row, number, faults):
            yield number, row


def _dataset(
    source: Source, name: str, task: Task | None, benchmark: str | None, format: str | None, first: int | None
) -> Dataset:
    if benchmark is not None:
        if task is not None:
            raise TaskError(f"the benchmark task {benchmark!r} brings its own prompt and options", hint=_ONE_TASK)
        if format is not None:
            raise TaskError(f"the benchmark task {benchmark!r} brings its own format", hint="Name one of the two.")
        return _of_benchmark(source, name, benchmark_task(benchmark), first)
    recognized = kind_of(_bounded(source, Faults(), first), name) if format is None else None
    kind = recognized or (_UNRECOGNIZED if format is None else named_kind(format))
    reading = _Reading(name, hints=None if recognized is None else recognized.hints)
    examples = reading.read(source, partial(_one, kind), first)
    return Dataset(
        kind.name,
        tuple(example for _, example in examples),
        tuple(line for line, _ in examples),
        (task or Task()) if kind.takes_task else None,
        remarks=reading.remarks,
    )


def _one(kind: RowKind, row: Fields) -> Iterator[Example]:
    yield kind.read(row)
    refuse_given(row, kind.refused)
    refuse_weight(row)


def _of_benchmark(source: Source, name: str, benchmark: BenchmarkTask, first: int | None) -> Dataset:
    reading = _Reading(f"{name} as {benchmark.name}")
    found = reading.read(source, benchmark.read, first)
    return Dataset(
        benchmark.format,
        tuple(example for _, example in found),
        tuple(line for line, _ in found),
        benchmark.template,
        benchmark.metric,
        benchmark.max_new_tokens,
        reading.remarks,
    )


def _bounded(source: Source, faults: Faults, first: int | None) -> Iterator[Row]:
    """The rows, up to the limit of rows or of faults."""
    for count, (line, row) in enumerate(islice(source.rows(faults), first), 1):
        if count > MOST_EXAMPLES:
            faults.append(Fault(f"line {line}", "", f"more than {MOST_EXAMPLES:,} rows", "split the file"))
            return
        yield line, row
        if faults.full:
            return


class _Reading:
    """Examples and faults so far.

    A row of a benchmark may give several examples; a row with a fault gives none.

    Args:
        name: What to call the file.
        hints: As in `RowKind`.

    Attributes:
        remarks: What `read` did not use of the rows, or changed.
    """

    def __init__(self, name: str, *, hints: Mapping[str, str] | None = None) -> None:
        self._name = name
        self.remarks = Remarks()
        self._hints = hints or {}
        self._faults = Faults()
        self._found: list[tuple[int, Example]] = []
        self._lines: set[int] = set()
        self._count = self._length = 0

    def read(self, source: Source, examples_of: ExamplesOf, first: int | None) -> list[tuple[int, Example]]:
        """All examples, each with its line.

        Raises:
            DatasetError: If there is a fault, or no example.
        """
        remarks = RemarksSoFar(source.container)
        for line, row in _bounded(source, self._faults, first):
            self._lines.add(line)
            fields = Fields(row, line, self._faults)
            if not self._add(line, examples_of(fields)):
                break
            remarks.add(fields)
        if self._faults:
            raise self._unusable()
        if not self._found:
            raise DatasetError(f"{self._name}: no rows", hint="The file needs at least one row of data.")
        self.remarks = remarks.remarks()
        return self._found

    def _add(self, line: int, examples: Iterable[Example]) -> bool:
        """Adds a row's examples; False if they exceed the limits, so that reading must stop."""
        before = len(self._faults)
        found: list[tuple[int, Example]] = []
        for example in examples:
            self._count, self._length = self._count + 1, self._length + example.characters
            if self._count > MOST_EXAMPLES or self._length > MOST_CHARACTERS:
                limit = f"{MOST_EXAMPLES:,} examples and {MOST_CHARACTERS:,} characters"
                fix = "split the file, or shorten this row"
                self._faults.append(Fault(f"line {line}", "", f"more than {limit}", fix))
                return False
            found.append((line, example))
        if len(self._faults) == before:
            self._found += found
        return True

    def _unusable(self) -> DatasetError:
        faults = sorted(self._faults, key=line_of)
        bad = {line_of(fault) for fault in faults}
        count = f"{'at least ' if self._faults.full else ''}{len(bad)} of {len(bad | self._lines)}"
        more = f" (the first {SHOWN_FAULTS} faults are listed)" if len(faults) > SHOWN_FAULTS else ""
        missing = {fault.field if fault.found == "nothing" else "" for fault in faults}
        return DatasetError(
            f"{self._name}: {count} rows cannot be used{more}; {faults[0]}",
            faults=faults[:SHOWN_FAULTS],
            hint=self._hints.get(missing.pop()) if len(missing) == 1 else None,
        )
