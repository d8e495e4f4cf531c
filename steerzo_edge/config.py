"""Closed settings: the base class of every profile section and request body.

A misspelt key is an error that names the nearest key; all faults of a document are reported at once.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from steerzo_edge.errors import Fault, InputError


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
            faults = [fault_of(detail) for detail in found.errors(include_url=False)]
            listed = "; ".join(str(fault) for fault in faults)
            raise error(f"{where}: {listed}", faults=faults) from None


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
    return Fault(".".join(path) or "top level", path[-1] if path else "", shown, detail["msg"])


def _fix(key: str, known: list[str]) -> str:
    near = get_close_matches(key, known, n=1, cutoff=0.7)
    if near:
        return f"did you mean {near[0]!r} instead of {key!r}?"
    return f"{key!r} is not one of {', '.join(sorted(known))}"
