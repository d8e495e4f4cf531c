"""The seven tasks with the same options for every row: SST-2, RTE, CB, BoolQ, WSC, WiC, MultiRC.

Prompts and option words are those of the MeZO paper (arXiv:2305.17333, its table of prompts). Rows have the fields
of GLUE and SuperGLUE as released; labels may also be the numbers that the `datasets` library exports. A row of
MultiRC is a passage, and each answer to each of its questions is an example. The options No and Yes stand in this
order where F1 is the metric: F1 is computed for the second class.
"""

from collections.abc import Iterator

from steerzo_edge.data.examples import Labelled
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.task import Task
from steerzo_edge.data.tasks.benchmark import BenchmarkTask

_TRUTH = {"false": "false", "true": "true", "0": "false", "1": "true"}
_NO_OR_YES = Task(template="{text}\n", options={"false": "No", "true": "Yes"})
_ENTAILMENT = {"entailment": "Yes", "not_entailment": "No"}
_STANCE = {"entailment": "Yes", "contradiction": "No", "neutral": "Maybe"}


def _spellings(options: dict[str, str]) -> dict[str, str]:
    """Each label as it may be written: its name, as released, or its number from 0, as `datasets` exports it."""
    return {name: name for name in options} | {str(index): name for index, name in enumerate(options)}


def _sst2(row: Fields) -> Iterator[Labelled]:
    sentence = row.text("sentence").strip()
    yield Labelled(sentence, row.one_of("label", {"0": "negative", "1": "positive"}))


def _rte(row: Fields) -> Iterator[Labelled]:
    premise, hypothesis = row.text("premise"), row.text("hypothesis")
    text = f'{premise}\nDoes this mean that "{hypothesis}" is true? Yes or No?'
    yield Labelled(text, row.one_of("label", _spellings(_ENTAILMENT)))


def _cb(row: Fields) -> Iterator[Labelled]:
    premise, hypothesis = row.text("premise"), row.text("hypothesis")
    text = f'Suppose {premise} Can we infer that "{hypothesis}"? Yes, No, or Maybe?'
    yield Labelled(text, row.one_of("label", _spellings(_STANCE)))


def _boolq(row: Fields) -> Iterator[Labelled]:
    passage, question = row.text("passage"), row.text("question").removesuffix("?")
    yield Labelled(f"{passage} {question}?", row.one_of("label", _TRUTH))


def _wsc(row: Fields) -> Iterator[Labelled]:
    text = row.text("text")
    target = row if row.has("span1_text") else row.inside("target")  # as exported by `datasets`, or as released
    noun, pronoun = target.text("span1_text"), target.text("span2_text")
    question = f'In the previous sentence, does the pronoun "{pronoun}" refer to {noun}? Yes or No?'
    yield Labelled(f"{text}\n{question}", row.one_of("label", _TRUTH))


def _wic(row: Fields) -> Iterator[Labelled]:
    question = f'Does the word "{row.text("word")}" have the same meaning in these two sentences? Yes, No?'
    yield Labelled(f"{question}\n{row.text('sentence1')}\n{row.text('sentence2')}", row.one_of("label", _TRUTH))


def _multirc(row: Fields) -> Iterator[Labelled]:
    passage = row.inside("passage")
    paragraph = passage.text("text")
    for asked in passage.each("questions"):
        question = asked.text("question")
        for answer in asked.each("answers"):
            # The release holds a few empty answers, all labelled as wrong.
            found = answer.text("text", may_be_empty=True)
            text = f'{paragraph}\nQuestion: {question}\nI found this answer "{found}". Is that correct? Yes or No?'
            yield Labelled(text, answer.one_of("label", _TRUTH))


SST2 = BenchmarkTask(
    "sst2",
    "classification",
    "accuracy",
    _sst2,
    Task(template="{text} It was", options={"negative": "terrible", "positive": "great"}),
)
RTE = BenchmarkTask("rte", "classification", "accuracy", _rte, Task(template="{text}\n", options=_ENTAILMENT))
CB = BenchmarkTask("cb", "classification", "accuracy", _cb, Task(template="{text}\n", options=_STANCE))
BOOLQ = BenchmarkTask("boolq", "classification", "accuracy", _boolq, _NO_OR_YES)
WSC = BenchmarkTask("wsc", "classification", "accuracy", _wsc, _NO_OR_YES)
WIC = BenchmarkTask("wic", "classification", "accuracy", _wic, _NO_OR_YES)
MULTIRC = BenchmarkTask("multirc", "classification", "f1", _multirc, _NO_OR_YES)
