"""The two tasks whose answers are generated: SQuAD and DROP.

Prompts are those of the MeZO paper (arXiv:2305.17333, its table of prompts). The first reference is learned; a
generated answer is scored against the reference that it fits best. The answers of SQuAD are a list of objects, as
released, or one object of lists, as the `datasets` library exports them.
"""

from collections.abc import Iterator, Sequence

from steerzo_edge.data.examples import Completion
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.tasks.benchmark import BenchmarkTask

# As in the paper's runs; the longest reference in SQuAD's training file has about as many tokens.
ANSWER_TOKENS = 50


def _squad(row: Fields) -> Iterator[Completion]:
    title, context, question = row.text("title"), row.text("context"), row.text("question").strip()
    references: Sequence[str] = (
        row.inside("answers").texts("text")
        if row.nests("answers")
        else [answer.text("text") for answer in row.each("answers")]
    )
    yield _asked(f"Title: {title}\nContext: {context}\nQuestion: {question}\nAnswer:", references)


def _drop(row: Fields) -> Iterator[Completion]:
    passage, question = row.text("passage"), row.text("question").strip()
    references = row.inside("answers_spans").texts("spans")
    yield _asked(f"Passage: {passage}\nQuestion: {question}\nAnswer:", references)


def _asked(prompt: str, references: Sequence[str]) -> Completion:
    accepted = tuple(dict.fromkeys(references))
    return Completion(prompt, f" {accepted[0]}" if accepted else "", accepted)


SQUAD = BenchmarkTask("squad", "completion", "f1", _squad, max_new_tokens=ANSWER_TOKENS)
DROP = BenchmarkTask("drop", "completion", "f1", _drop, max_new_tokens=ANSWER_TOKENS)
