"""Rows with a prompt and its completion: the completion is learned.

    {"prompt": "Translate to French: cat\\n", "completion": "chat", "references": ["chat", "un chat"]}

`references` is optional: generated answers that count as right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.examples import Completion, Dataset, Example
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.fitting import Runs, fitted_targets
from steerzo_edge.data.kinds.kind import Asked, Asking, RowKind
from steerzo_edge.data.meanings import PROMPTS, refuse_bad_examples
from steerzo_edge.data.task import Task
from steerzo_edge.data.tokenization import Targets
from steerzo_edge.data.tokens import answer_tokens, end_tokens, prompt_tokens


def _read(row: Fields) -> Completion:
    prompt, completion = row.text("prompt"), row.text("completion")
    refuse_bad_examples(row)
    return Completion(prompt, completion, row.texts("references") if row.value("references") is not None else ())


def _tokenize(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int, labels: Sequence[str]
) -> Targets:
    end = end_tokens(tokenizer)

    def runs(example: Example) -> Runs:
        assert isinstance(example, Completion)
        prompt = prompt_tokens(tokenizer, example.prompt)
        completion = answer_tokens(tokenizer, example.completion) + end
        return Runs([(prompt, False), (completion, True)], example.prompt, example.accepted)

    return fitted_targets(dataset, runs, max_tokens)


def _asked(example: Example, task: Task | None, options: Mapping[str, str]) -> Asked:
    assert isinstance(example, Completion)
    return Asked(example.prompt, (example.completion,), example.completion)


def _with_prompt(example: Example, prompt: str, task: Task | None) -> Completion:
    assert isinstance(example, Completion)
    return replace(example, prompt=prompt)


KIND = RowKind(
    name="completion",
    fields=("prompt", "completion"),
    read=_read,
    tokenize=_tokenize,
    asking=Asking(_asked, _with_prompt),
    refused=PROMPTS,
    lists=False,
)
