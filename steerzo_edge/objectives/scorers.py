"""Scorers of generated answers: overlap of words, exact match, or a function that the operator registers.

An operator registers scorers as entry points of an installed package in the group "steerzo_edge.scorers", or in the
environment: STEERZO_SCORERS="brevity=my_module:brevity,units=my_module:units". Profiles choose among them by name;
text of a request is never imported.

    def brevity(prompt: str, answer: str, references: Sequence[str]) -> float: ...    # in [0, 1], 1 is best
"""

import logging
import math
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points

from steerzo_edge.data.tokenization import Target
from steerzo_edge.errors import ProfileError
from steerzo_edge.objectives.metrics import exact_match, token_f1

log = logging.getLogger(__name__)
GROUP = "steerzo_edge.scorers"
VARIABLE = "STEERZO_SCORERS"

Scorer = Callable[[str, str, Sequence[str]], float]
AnswerScorer = Callable[[Target, str], float]
SCORERS: Mapping[str, AnswerScorer] = {
    "f1": lambda row, answer: token_f1(answer, row.references),
    "exact_match": lambda row, answer: exact_match(answer, row.references),
}


def registered_scorer(name: str, environment: Mapping[str, str] = os.environ) -> AnswerScorer:
    """Loads a scorer that the operator registered.

    Args:
        name: The name it was registered under.
        environment: Where STEERZO_SCORERS is looked up.

    Returns:
        The scorer, with nan and a log entry in place of an exception or of a value outside [0, 1].

    Raises:
        ProfileError: If there is no such scorer, or it cannot be loaded.
    """
    known = _registered(environment)
    if name not in known:
        listed = f"There are: {', '.join(sorted(known))}." if known else f"None is registered; set {VARIABLE}."
        raise ProfileError(f"there is no scorer {name!r}", hint=listed)
    try:
        scorer: Scorer = known[name].load()
    except (ImportError, AttributeError) as error:
        raise ProfileError(f"scorer {name!r} ({known[name].value}) cannot be loaded: {error}") from None

    def checked(row: Target, answer: str) -> float:
        try:
            value = float(scorer(row.prompt, answer, row.references))
        except Exception as error:  # the operator's code may raise anything; only this candidate is lost
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.warning("scorer %r raised %s at %s:%s", name, type(error).__name__, place.filename, place.lineno)
            return math.nan
        if not 0 <= value <= 1:
            log.warning("scorer %r gave %s, which is not a number in [0, 1]", name, value)
            return math.nan
        return value

    return checked


def _registered(environment: Mapping[str, str]) -> dict[str, EntryPoint]:
    """All registered scorers; a name in the environment replaces the same name in a package."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    for part in filter(None, (part.strip() for part in environment.get(VARIABLE, "").split(","))):
        name, equals, place = (piece.strip() for piece in part.partition("="))
        module, colon, function = place.partition(":")
        if not (name and equals and module and colon and function):
            raise ProfileError(
                f"{VARIABLE}: {part!r} is not name=module:function",
                hint=f"For example {VARIABLE}=brevity=mine:brevity.",
            )
        found[name] = EntryPoint(name, place, GROUP)
    return found
