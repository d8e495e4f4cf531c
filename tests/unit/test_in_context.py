"""Demonstrations: solved examples in the question's own form, never the question itself, never more than fit."""

import pytest

from steerzo_edge.data.examples import Completion, Dataset, Labelled, MultipleChoice
from steerzo_edge.data.in_context import with_demonstrations
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.reading import read_rows
from steerzo_edge.data.task import Task
from steerzo_edge.data.tokenization import Choices
from steerzo_edge.errors import DatasetError
from tests.conftest import DATASETS, byte_tokenizer, completion_rows, labelled_rows
from tests.unit.task_rows import CASES, asked


def built(dataset: Dataset, pool: Dataset, shots: int, seed: int = 0, room: int = 100_000) -> Dataset:
    return with_demonstrations(dataset, pool, shots, seed=seed, length=len, room=room).dataset


def told(answer: str, dataset: Dataset) -> str:
    return f" {answer}" if dataset.format == "completion" else answer


@pytest.mark.parametrize("name", CASES)
def test_every_task_takes_demonstrations(name: str) -> None:
    case = CASES[name]
    rows = read_rows([case.row], benchmark=name)
    pool = read_rows([case.row], benchmark=name)
    first = Dataset(rows.format, rows.examples[:1], rows.lines[:1], rows.task, rows.metric, rows.max_new_tokens)
    found = built(first, pool, 5)
    others = [
        prompt + told(follows[right[0]], rows)
        for prompt, follows, right in case.expected
        if prompt != case.expected[0][0]
    ]
    (prompt, follows, right), *_ = asked(found)
    assert (follows, right) == case.expected[0][1:]
    assert prompt.endswith(case.expected[0][0])
    parts = prompt.removesuffix(case.expected[0][0]).split("\n\n")
    assert sorted(parts) == sorted([*others, ""])
    assert (found.metric, found.max_new_tokens) == (rows.metric, rows.max_new_tokens)


def test_the_text_of_a_demonstration() -> None:
    pool = read_rows(
        [{"premise": "It rained.", "hypothesis": "It was wet.", "label": "entailment"}], benchmark="rte"
    )
    rows = read_rows([CASES["rte"].row], benchmark="rte")
    ((prompt, options, right),) = asked(built(rows, pool, 1))
    assert prompt == (
        'It rained.\nDoes this mean that "It was wet." is true? Yes or No?\nYes\n\n'
        'It rained in Oslo.\nDoes this mean that "Oslo was dry." is true? Yes or No?\n'
    )
    assert (options, right) == (("Yes", "No"), (1,))


def test_a_text_in_the_middle_of_its_template() -> None:
    task = Task(template="Text: {text}\nIs it {good}? ", options={"a": "yes", "b": "no"})
    rows = Dataset("classification", (Labelled("x {text}", "a"),), (1,), task)
    pool = Dataset("classification", (Labelled("y", "b"),), (1,), task)
    found = built(rows, pool, 3)
    assert asked(found) == [("Text: y\nIs it {good}? no\n\nText: x {text}\nIs it {good}? ", ("yes", "no"), (0,))]
    data = tokenize(found, byte_tokenizer(), 200)
    assert isinstance(data, Choices)
    assert byte_tokenizer().decode(data.rows[0].prompt + data.options[0]).endswith("Is it {good}? yes")


def test_options_include_labels_of_the_pool() -> None:
    rows = Dataset("classification", (Labelled("x", "a"), Labelled("y", "c")), (1, 2), Task())
    pool = Dataset("classification", (Labelled("z", "b"),), (1,), Task())
    prompts = asked(built(rows, pool, 1))
    assert [options for _, options, _ in prompts] == [(" a", " b", " c")] * 2
    assert prompts[0][0] == "z\nLabel: b\n\nx\nLabel:"


@pytest.mark.parametrize("rows", DATASETS)
def test_the_seed_chooses(rows: str) -> None:
    dataset = DATASETS[rows]()
    one, again, other = (built(dataset, dataset, 3, seed) for seed in (1, 1, 2))
    assert one == again
    assert one.examples != other.examples
    kept = {prompt + follows[right[0]] for prompt, follows, right in asked_any(dataset)}
    chosen = set()
    for (prompt, _, _), (own, _, _) in zip(asked_any(one), asked_any(dataset), strict=True):
        *demonstrations, last = prompt.split("\n\n")
        assert last == own
        assert len(set(demonstrations)) == 3
        assert set(demonstrations) <= kept
        chosen.add(tuple(demonstrations))
    assert len(chosen) > 10  # every row draws its own


def asked_any(dataset: Dataset) -> list[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    if dataset.format != "completion":
        return asked(dataset)
    return [(e.prompt, (e.completion,), (0,)) for e in dataset.examples if isinstance(e, Completion)]


def test_demonstrations_that_do_not_fit_are_left_out() -> None:
    rows = Dataset("completion", (Completion("q" * 20, " a"),), (1,))
    pool = Dataset("completion", tuple(Completion(f"{i}" * 10, " b") for i in range(8)), tuple(range(8)))
    # Each demonstration takes 10 + 2 + 2 letters, the question 20, the answer 2 and the end of text 1.
    for room, fit in ((23, 0), (36, 0), (37, 1), (50, 1), (51, 2), (64, 2), (1000, 5)):
        found = with_demonstrations(rows, pool, 5, seed=0, length=len, room=room)
        assert found.used == (fit,)
        (example,) = found.dataset.examples
        assert isinstance(example, Completion)
        assert len(example.prompt) == 20 + 14 * fit
        assert example.prompt.endswith("q" * 20)
    # An answer that is generated needs room of its own.
    rows = Dataset("completion", rows.examples, (1,), metric="f1", max_new_tokens=30)
    assert with_demonstrations(rows, pool, 5, seed=0, length=len, room=64).used == (1,)


def test_the_longest_choice_must_fit() -> None:
    rows = Dataset("multiple-choice", (MultipleChoice("q", (" a", " " + "b" * 29), (0,)),), (1,))
    pool = Dataset("multiple-choice", (MultipleChoice("p", (" a", " b"), (1,)),), (1,))
    assert [with_demonstrations(rows, pool, 1, seed=0, length=len, room=room).used for room in (36, 37)] == [
        (0,),
        (1,),
    ]


def test_a_row_is_never_its_own_demonstration() -> None:
    dataset = labelled_rows(4)
    for prompt, _, _ in asked(built(dataset, dataset, 4)):
        parts = prompt.split("\n\n")
        assert len(parts) == 4
        assert not any(part.startswith(parts[-1]) for part in parts[:-1])


def test_other_formats_are_refused() -> None:
    with pytest.raises(DatasetError, match="are completion, the rows classification"):
        built(labelled_rows(), completion_rows(), 1)
    chat = read_rows([{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}])
    with pytest.raises(DatasetError, match="chat"):
        built(chat, chat, 1)
