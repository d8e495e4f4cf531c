"""A file of JSON lines or CSV to a Dataset, or one error that names every bad row.

The format is found by looking at the fields.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from steerzo_edge.data.examples import (
    Chat,
    Completion,
    Dataset,
    Example,
    Format,
    Labelled,
    Message,
    MultipleChoice,
    characters,
)
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.rows import Row, csv_rows, decoded, is_text, json_rows, line_of, shown
from steerzo_edge.data.task import Task
from steerzo_edge.data.tasks import BenchmarkTask, benchmark_task
from steerzo_edge.errors import DatasetError, Fault, TaskError

SHOWN_FAULTS = 100
# Each answer to a passage is an example that holds all of it, so a small file may become a huge dataset. The
# largest release, all of ReCoRD's training file, is about 100,000 examples of 200 million characters.
MOST_EXAMPLES = 1_000_000
MOST_CHARACTERS = 256 << 20
FIELDS: dict[Format, tuple[str, ...]] = {
    "chat": ("messages",),
    "completion": ("prompt", "completion"),
    "classification": ("text", "label"),
    "multiple-choice": ("prompt", "choices", "answer"),
}
_ONE_TASK = "Leave the template and options out, or the benchmark task."
ROLES = ("system", "user", "assistant")
_FORMATS = "; ".join(f"{name}: {', '.join(fields)}" for name, fields in FIELDS.items())


def read_dataset(
    data: bytes, *, name: str = "dataset", task: Task | None = None, benchmark: str | None = None
) -> Dataset:
    """Parses a whole file.

    Args:
        data: Its bytes, UTF-8.
        name: Its name; ".csv" is read as CSV, all else by its first character.
        task: How labelled rows are put to the model.
        benchmark: The benchmark task whose release has these fields; None finds one of the formats by its fields.

    Raises:
        DatasetError: If it is empty, not text, of no known format, or has bad rows.
        TaskError: If there is no such benchmark task, or it is given beside a template of one's own.
    """
    text = decoded(data, name)
    faults: list[Fault] = []
    if name.lower().endswith(".csv") or not text.lstrip().startswith(("{", "[")):
        rows = list(csv_rows(text, faults))
    else:
        rows = list(json_rows(text, faults))
    return _dataset(rows, faults, name, task, benchmark)


def read_rows(
    rows: Sequence[Any], *, name: str = "rows", task: Task | None = None, benchmark: str | None = None
) -> Dataset:
    """The same for rows that came inside a JSON body; they are counted from 1.

    Raises:
        DatasetError: As `read_dataset`.
        TaskError: As `read_dataset`.
    """
    if not rows:
        raise DatasetError(f"{name}: no rows", hint="Send at least one row.")
    faults: list[Fault] = []
    objects = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            faults.append(Fault(f"line {number}", "", shown(row), "every row must be a JSON object"))
        elif is_text(row, number, faults):
            objects.append((number, row))
    return _dataset(objects, faults, name, task, benchmark)


def _dataset(rows: list[Row], faults: list[Fault], name: str, task: Task | None, benchmark: str | None) -> Dataset:
    if not rows and not faults:
        raise DatasetError(f"{name}: no rows", hint="The file needs at least one row of data.")
    if benchmark is not None:
        if task is not None:
            raise TaskError(f"the benchmark task {benchmark!r} brings its own prompt and options", hint=_ONE_TASK)
        return _of_benchmark(rows, faults, name, benchmark_task(benchmark))
    examples: list[Example] = []
    lines: list[int] = []
    found = _format(rows, name) if rows else "completion"
    for line, row in rows:
        example = _example(found, line, row, faults)
        if example is not None:
            examples.append(example)
            lines.append(line)
    if faults:
        raise _unusable(name, sorted(faults, key=line_of), {line for line, _ in rows})
    if found == "classification":
        task = task or Task()
    return Dataset(found, tuple(examples), tuple(lines), task if found == "classification" else None)


def _of_benchmark(rows: list[Row], faults: list[Fault], name: str, benchmark: BenchmarkTask) -> Dataset:
    """A row may hold several examples; a row with a fault gives none."""
    found = _examples_of(rows, faults, benchmark)
    if faults:
        raise _unusable(f"{name} as {benchmark.name}", sorted(faults, key=line_of), {line for line, _ in rows})
    return Dataset(
        benchmark.format,
        tuple(example for _, example in found),
        tuple(line for line, _ in found),
        benchmark.template,
        benchmark.metric,
        benchmark.max_new_tokens,
    )


def _examples_of(rows: list[Row], faults: list[Fault], benchmark: BenchmarkTask) -> list[tuple[int, Example]]:
    found: list[tuple[int, Example]] = []
    count = length = 0
    for line, row in rows:
        before = len(faults)
        examples: list[tuple[int, Example]] = []
        for example in benchmark.read(Fields(row, line, faults)):
            count, length = count + 1, length + characters(example)
            if count > MOST_EXAMPLES or length > MOST_CHARACTERS:
                limit = f"{MOST_EXAMPLES:,} examples and {MOST_CHARACTERS:,} characters"
                faults.append(
                    Fault(f"line {line}", "", f"more than {limit}", "split the file, or shorten this row")
                )
                return found
            examples.append((line, example))
        if len(faults) == before:
            found += examples
    return found


def _unusable(name: str, faults: list[Fault], lines: set[int]) -> DatasetError:
    bad = {line_of(fault) for fault in faults}
    more = f" (the first {SHOWN_FAULTS} faults are listed)" if len(faults) > SHOWN_FAULTS else ""
    return DatasetError(
        f"{name}: {len(bad)} of {len(bad | lines)} rows cannot be used{more}; {faults[0]}",
        faults=faults[:SHOWN_FAULTS],
    )


def _format(rows: Sequence[Row], name: str) -> Format:
    """The format most rows have all fields of; ties and partial matches go by how many fields are there."""

    def matches(fields: Iterable[str]) -> tuple[int, int]:
        counts = [sum(field in row for field in fields) for _, row in rows]
        return sum(count == len(FIELDS[kind]) for count in counts), sum(counts)

    scores: dict[Format, tuple[int, int]] = {}
    for kind, fields in FIELDS.items():
        scores[kind] = matches(fields)
    best = max(scores, key=lambda kind: scores[kind])
    if scores[best] == (0, 0):
        line, row = rows[0]
        seen = ", ".join(map(str, row)) or "no fields"
        raise DatasetError(
            f"{name}: no known format; line {line} has the fields {seen}",
            faults=[Fault(f"line {line}", "", f"fields {seen}", f"name them by one of the formats ({_FORMATS})")],
            hint=f"Known formats: {_FORMATS}.",
        )
    return best


def _example(kind: Format, line: int, row: Mapping[str, Any], faults: list[Fault]) -> Example | None:
    before = len(faults)
    if kind == "chat":
        example: Example = Chat(_messages(f"line {line}", row, faults))
    else:
        example = _READERS[kind](Fields(row, line, faults))
    return None if len(faults) > before else example


def _completion(fields: Fields) -> Example:
    prompt, completion = fields.text("prompt"), fields.text("completion")
    return Completion(prompt, completion, fields.texts("references") if fields.has("references") else ())


def _labelled(fields: Fields) -> Example:
    return Labelled(fields.text("text"), fields.label())


def _multiple_choice(fields: Fields) -> Example:
    prompt = fields.text("prompt")
    choices = tuple(joined(prompt, choice) for choice in fields.texts("choices", least=2))
    if len(set(choices)) < len(choices):
        fields.refuse("choices", "all choices must differ")
    return MultipleChoice(prompt, choices, fields.indices("answer", len(choices)) if choices else ())


def joined(prompt: str, choice: str) -> str:
    """A choice with the blank that parts it from the prompt, if neither brings one."""
    return choice if prompt[-1:].isspace() or choice[:1].isspace() else f" {choice}"


def _messages(where: str, row: Mapping[str, Any], faults: list[Fault]) -> tuple[Message, ...]:
    value = row.get("messages")
    if not isinstance(value, list) or not value:
        found = "nothing" if "messages" not in row else shown(value)
        faults.append(Fault(where, "messages", found, 'it must be a list of {"role", "content"}'))
        return ()
    messages = []
    for index, message in enumerate(value):
        field = f"messages[{index}]"
        if not isinstance(message, dict):
            faults.append(Fault(where, field, shown(message), 'it must be {"role", "content"}'))
        elif message.get("role") not in ROLES:
            found = shown(message.get("role"))
            faults.append(Fault(where, f"{field}.role", found, f"it must be one of {', '.join(ROLES)}"))
        elif not isinstance(message.get("content"), str) or not message["content"].strip():
            found = shown(message.get("content"))
            faults.append(Fault(where, f"{field}.content", found, "it must be a text that is not empty"))
        else:
            messages.append(Message(message["role"], message["content"]))
    if len(messages) == len(value) and messages[-1].role != "assistant":
        faults.append(
            Fault(where, "messages", f"last role {messages[-1].role!r}", "end with the assistant's answer")
        )
    return tuple(messages)


_READERS: dict[Format, Callable[[Fields], Example]] = {
    "completion": _completion,
    "classification": _labelled,
    "multiple-choice": _multiple_choice,
}
