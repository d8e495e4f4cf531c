"""The two tasks whose rows bring their own candidates: COPA and ReCoRD.

Prompts are those of the MeZO paper (arXiv:2305.17333, its table of prompts). A candidate of COPA goes on with the
premise's sentence, so the premise's full stop and the candidate's capital go, as in the paper's own runs. A
candidate of ReCoRD stands in the middle of the query: the prompt is all before it, a choice is it and all behind.
"""

from collections.abc import Iterator, Sequence

from steerzo_edge.data.examples import MultipleChoice
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.normalization import normalized
from steerzo_edge.data.tasks.benchmark import BenchmarkTask

PLACEHOLDER = "@placeholder"
# Each choice repeats the rest of its query; those of a real row hold up to 5,000 characters together.
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
        before, placeholder, behind = query.partition(PLACEHOLDER)
        if query and not placeholder:
            asked.refuse("query", f"it must hold {PLACEHOLDER}")
        accepted = [answer.text("text") for answer in asked.each("answers")]
        exact, plain = set(accepted), {normalized(answer) for answer in accepted} - {""}
        right = tuple(i for i, name in enumerate(names) if name in exact or normalized(name) in plain)
        if names and accepted and all(accepted) and not right:
            asked.refuse("answers", "one of the passage's entities must be the answer")
        if _length(names, behind) > MOST_CHARACTERS:
            asked.refuse("query", f"its choices must hold at most {MOST_CHARACTERS:,} characters together")
            return
        prompt, blank = _parted(f"{text}\n{before}")
        choices = tuple(f"{blank}{name}{behind.replace(PLACEHOLDER, name)}" for name in names)
        yield MultipleChoice(prompt, choices, right)


def _span(text: str, entity: Fields) -> str:
    """The name an entity stands for; the release counts its last character in."""
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


def _length(names: Sequence[str], behind: str) -> int:
    """Characters of all choices of a query, without making them."""
    places = behind.count(PLACEHOLDER)
    kept = len(behind) - places * len(PLACEHOLDER)
    return sum(kept + (places + 1) * len(name) for name in names)


def _parted(text: str) -> tuple[str, str]:
    """A prompt and the blank at its end, which belongs to the next word's token."""
    return (text[:-1], " ") if text.endswith(" ") else (text, "")


COPA = BenchmarkTask("copa", "multiple-choice", "accuracy", _copa)
RECORD = BenchmarkTask("record", "multiple-choice", "exact_match", _record)
