"""The two tasks whose options differ from row to row: COPA and ReCoRD.

Prompts are those of the MeZO paper (arXiv:2305.17333, its table of prompts). A choice of COPA continues the
premise's sentence, so the premise's full stop and the choice's capital letter are removed, as in the paper's own
runs. A candidate of ReCoRD takes a place in the middle of the query: the prompt is the text before that place, and
a choice is the candidate with the text after it.
"""

from collections.abc import Iterator, Sequence

from steerzo_edge.data.examples import MultipleChoice
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.normalization import normalized
from steerzo_edge.data.tasks.benchmark import BenchmarkTask

PLACEHOLDER = "@placeholder"
# Each choice repeats the rest of its query; in real rows, all choices together have up to 5,000 characters.
MOST_CHARACTERS = 1 << 20
_CONJUNCTIONS = {"effect": "so", "cause": "because"}


def _copa(row: Fields) -> Iterator[MultipleChoice]:
    premise = row.text("premise").rstrip().removesuffix(".")
    conjunction = row.one_of("question", _CONJUNCTIONS)
    choices = tuple(f" {_inside_a_sentence(row.text(name))}" for name in ("choice1", "choice2"))
    answer = int(row.one_of("label", {"0": "0", "1": "1"}))
    yield MultipleChoice(f"{premise} {conjunction}", choices, (answer,))


def _inside_a_sentence(text: str) -> str:
    first, blank, rest = text.partition(" ")
    return text if first == "I" else f"{first.lower()}{blank}{rest}"


def _record(row: Fields) -> Iterator[MultipleChoice]:
    passage = row.inside("passage")
    text = passage.text("text")
    names = _names(text, passage)
    if len(names) == 1:
        passage.refuse("entities", "at least two different ones are needed to choose from")
    for asked in row.each("qas"):
        query = asked.text("query")
        before, placeholder, after = query.partition(PLACEHOLDER)
        if query and not placeholder:
            asked.refuse("query", f"it must contain {PLACEHOLDER}")
        accepted = [answer.text("text") for answer in asked.each("answers")]
        exact, plain = set(accepted), {normalized(answer) for answer in accepted} - {""}
        right = tuple(i for i, name in enumerate(names) if name in exact or normalized(name) in plain)
        if names and accepted and all(accepted) and not right:
            asked.refuse("answers", "one of the passage's entities must be the answer")
        if _length(names, after) > MOST_CHARACTERS:
            asked.refuse("query", f"its choices must hold at most {MOST_CHARACTERS:,} characters together")
            return
        prompt, blank = _parted(f"{text}\n{before}")
        choices = tuple(f"{blank}{name}{after.replace(PLACEHOLDER, name)}" for name in names)
        yield MultipleChoice(prompt, choices, right)


def _span(text: str, entity: Fields) -> str:
    """The name that an entity's `start` and `end` point to; in the release, `end` is the last character's index."""
    start, end = entity.whole("start"), entity.whole("end")
    name = text[start : end + 1]
    if not name.strip() or end >= len(text):
        entity.refuse("end", f"start and end must lie in the passage of {len(text)} characters")
    return name


def _names(text: str, passage: Fields) -> tuple[str, ...]:
    """The different candidates of a passage, in order of first appearance."""
    names: dict[str, None] = {}
    length = 0
    for entity in passage.each("entities"):
        name = _span(text, entity)
        length += 0 if name in names else len(name)
        if length > MOST_CHARACTERS:
            entity.refuse("end", f"all entities must hold at most {MOST_CHARACTERS:,} characters together")
            break
        names[name] = None
    return tuple(names)


def _length(names: Sequence[str], after: str) -> int:
    """Characters of all choices of a query, computed without making the choices."""
    places = after.count(PLACEHOLDER)
    kept = len(after) - places * len(PLACEHOLDER)
    return sum(kept + (places + 1) * len(name) for name in names)


def _parted(text: str) -> tuple[str, str]:
    """A prompt and the blank at its end; tokenizers put a blank into the token of the word after it."""
    return (text[:-1], " ") if text.endswith(" ") else (text, "")


COPA = BenchmarkTask("copa", "multiple-choice", "accuracy", _copa)
RECORD = BenchmarkTask("record", "multiple-choice", "exact_match", _record)
