"""Closed settings: the base class of every profile section and request body.

A misspelt key is an error that names the nearest key; all faults of a document are reported at once.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from steerzo_edge.errors import Fault, InputError

Place = tuple[int | str, ...]
# Errors that are read of those whose paths differ in places of lists only: each item of a long list may have some.
MOST_ALIKE = 100
# How the names of pydantic's errors end that say of a value that it is not of this type at all.
_OTHER_TYPE = ("_type", "_parsing", "literal_error", "string_pattern_mismatch")


class Config(BaseModel):
    """A frozen, closed group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _name_the_nearest_key(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        known = [field.alias or name for name, field in cls.model_fields.items()]
        unknown = [str(key) for key in data if key not in known]
        if unknown:
            raise PydanticCustomError(
                "unknown_key", "{fix}", {"keys": unknown, "fix": "; ".join(_fix(key, known) for key in unknown)}
            )
        return data

    @classmethod
    def parse(cls, data: Any, *, where: str, error: type[InputError] = InputError) -> Self:
        """Validates `data`, or raises one error that lists every fault.

        Args:
            data: What a YAML file or a request body held.
            where: What to call the document in the message ("profile 'gpu-8gb'").
            error: What to raise.

        Raises:
            InputError: Of the class `error`, with one Fault for each wrong setting.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as found:
            faults = faults_of(found.errors(include_url=False), data)
            listed = "; ".join(str(fault) for fault in faults)
            raise error(f"{where}: {listed}", faults=faults) from None


def faults_of(details: Sequence[ErrorDetails], data: Any) -> list[Fault]:
    """The errors of a document as faults, one for each place.

    Where a value may have one of several forms (a union), pydantic lists what is wrong with it as each of them,
    under names of its own. Only the form that the value comes nearest to is kept: one that has the value's type. If
    no form has its type, one fault says which types there are.

    Of many errors that differ only in the place in a list, the first ones are told, and that there are more.

    Args:
        details: What pydantic found.
        data: The document.
    """
    few = _few(details)
    faults = [fault_of(detail) for detail in _one_form(few, data, 0)]
    if len(few) < len(details):
        fix = f"of errors that differ only in their place in a list, the first {MOST_ALIKE} are listed"
        faults.append(Fault("the same lists", "", "more errors", fix))
    return faults


def _few(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """The errors without those that come after many alike; every form that a value may have keeps some."""
    counts: Counter[tuple[str, ...]] = Counter()
    found: list[ErrorDetails] = []
    for detail in details:
        kind = (detail["type"], *(part for part in detail["loc"] if isinstance(part, str)))
        counts[kind] += 1
        if counts[kind] <= MOST_ALIKE:
            found.append(detail)
    return found


def _one_form(details: Sequence[ErrorDetails], data: Any, known: int) -> list[ErrorDetails]:
    """The errors without those of other forms; `known` names of forms in their paths have been looked at."""
    places: dict[Place, dict[str, list[ErrorDetails]]] = {}
    for detail in details:
        place, form = _form(detail, data, known)
        places.setdefault(place, {}).setdefault(form, []).append(detail)
    found: list[ErrorDetails] = []
    for place, forms in places.items():
        if len(forms) == 1:
            (form, errors), *_ = forms.items()
            found += _one_form(errors, data, known + 1) if form else errors
            continue
        fitting = [errors for errors in forms.values() if not any(_other_type(one, place) for one in errors)]
        if fitting:
            nearest = min(fitting, key=len)
            without = [{**one, "loc": (*place, *one["loc"][len(place) + 1 :])} for one in nearest]
            found += _one_form(cast(list[ErrorDetails], without), data, known)
        else:
            reasons = dict.fromkeys(one["msg"] for errors in forms.values() for one in errors)
            first = next(iter(forms.values()))[0]
            found.append(cast(ErrorDetails, {**first, "loc": place, "msg": "; or: ".join(reasons)}))
    return found


def _form(detail: ErrorDetails, data: Any, known: int) -> tuple[Place, str]:
    """The place of the value that an error is about, and the form as which it was read; "" if it has only one.

    Names of forms are the parts of an error's path that are not in the document.
    """
    inside = data
    last = len(detail["loc"]) - 1
    for index, part in enumerate(detail["loc"]):
        if _has(inside, part):
            inside = inside[part]
        elif detail["type"] == "missing" and index == last:
            break
        elif known:
            known -= 1
        else:
            return detail["loc"][:index], str(part)
    return detail["loc"], ""


def _has(value: Any, part: int | str) -> bool:
    """Whether a value of a document has such an item; a list may be long, so it is not searched."""
    if isinstance(value, list | tuple):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, Mapping) and part in value


def _other_type(detail: ErrorDetails, place: Place) -> bool:
    """Whether an error says that the value itself has another type than a form of it needs."""
    return len(detail["loc"]) == len(place) + 1 and detail["type"].endswith(_OTHER_TYPE)


def fault_of(detail: ErrorDetails) -> Fault:
    """One pydantic error as a Fault with a dotted path."""
    path = [str(part) for part in detail["loc"]]
    context = detail.get("ctx") or {}
    if detail["type"] == "unknown_key":
        keys = ", ".join(context["keys"])
        return Fault(".".join(path) or "top level", keys, f"unknown key {keys}", detail["msg"])
    if detail["type"] == "missing":
        return Fault(".".join(path[:-1]) or "top level", path[-1], "nothing", "this key is required")
    found = repr(detail["input"])
    shown = found if len(found) <= 80 else found[:77] + "..."
    fix = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "union_tag_invalid":
        fix += _nearest_tag(context)
    return Fault(".".join(path) or "top level", path[-1] if path else "", shown, fix)


def _nearest_tag(context: Mapping[str, Any]) -> str:
    """A question after the misspelt name of a kind: "; did you mean 'greedy'?"."""
    tags = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
    near = get_close_matches(str(context["tag"]), tags, n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else ""


def _fix(key: str, known: list[str]) -> str:
    near = get_close_matches(key, known, n=1, cutoff=0.7)
    if near:
        return f"did you mean {near[0]!r} instead of {key!r}?"
    return f"{key!r} is not one of {', '.join(sorted(known))}"
