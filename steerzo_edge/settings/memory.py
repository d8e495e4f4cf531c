"""The setting `memory`: what a run may take."""

from typing import Annotated, Literal

from pydantic import Field

_UNITS = {"MiB": 1 << 20, "GiB": 1 << 30}
Memory = Annotated[
    Literal["lean", "fast"] | Annotated[str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,3})? ?(MiB|GiB)$")],
    Field(
        description="What a run may take. lean: no more than exact gradients with checkpointing, and hardly more "
        'than inference; fast: what is free; or a size of the whole process, such as "2 GiB".'
    ),
]


def memory_bytes(setting: str) -> int | None:
    """The size that a setting names, in bytes; None for `lean` and `fast`."""
    unit = setting[-3:]
    return round(float(setting[:-3]) * _UNITS[unit]) if unit in _UNITS else None
