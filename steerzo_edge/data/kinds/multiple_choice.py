"""Rows with choices of their own: the right choice is learned, among the row's choices.

{"prompt": "The sky is", "choices": ["blue", "red"], "answer": 0}
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.examples import Dataset, Example, MultipleChoice
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.fitting import too_long
from steerzo_edge.data.kinds.kind import Asked, Asking, RowKind
from steerzo_edge.data.task import Task
from steerzo_edge.data.tokenization import Question, Questions
from steerzo_edge.data.tokens import answer_tokens, prompt_tokens
from steerzo_edge.errors import Fault


def _read(row: Fields) -> MultipleChoice:
    prompt = row.text("prompt")
    choices = tuple(_joined(prompt, choice) for choice in row.texts("choices", least=2))
    if len(set(choices)) < len(choices):
        row.refuse("choices", "all choices must differ")
    return MultipleChoice(prompt, choices, row.indices("answer", len(choices)) if choices else ())


def _joined(prompt: str, choice: str) -> str:
    """A choice with a blank before it, unless it or the prompt has one there."""
    return choice if prompt[-1:].isspace() or choice[:1].isspace() else f" {choice}"


def _tokenize(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int, labels: Sequence[str]
) -> Questions:
    rows: list[Question] = []
    faults: list[Fault] = []
    truncated = 0
    for line, example in zip(dataset.lines, dataset.examples, strict=True):
        assert isinstance(example, MultipleChoice)
        choices = tuple(answer_tokens(tokenizer, choice) for choice in example.choices)
        longest = max(len(choice) for choice in choices)
        if longest >= max_tokens or not all(choices):
            found = f"a choice of {longest if all(choices) else 0} tokens"
            faults.append(Fault(f"line {line}", "", found, f"1 to {max_tokens - 1} fit after the prompt"))
            continue
        prompt = prompt_tokens(tokenizer, example.prompt)
        room = max_tokens - longest
        truncated += len(prompt) > room
        rows.append(Question(prompt[-room:], choices, example.answers))
    if faults:
        raise too_long("choice", faults, max_tokens)
    return Questions(tuple(rows), truncated, dataset.metric or "accuracy")


def _asked(example: Example, task: Task | None, options: Mapping[str, str]) -> Asked:
    assert isinstance(example, MultipleChoice)
    return Asked(example.prompt, example.choices, example.choices[example.answers[0]])


def _with_prompt(example: Example, prompt: str, task: Task | None) -> MultipleChoice:
    assert isinstance(example, MultipleChoice)
    return replace(example, prompt=prompt)


KIND = RowKind(
    name="multiple-choice",
    fields=("prompt", "choices", "answer"),
    read=_read,
    tokenize=_tokenize,
    asking=Asking(_asked, _with_prompt),
)
