"""The setting of a learning rate: a number, "auto", or a multiple of what is found."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError


def _above_zero(setting: str) -> str:
    if not float(setting.rpartition("*")[0]) > 0:
        raise PydanticCustomError("zero_rate", "a rate of 0 learns nothing")
    return setting


MultipleOfAuto = Annotated[
    str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,9})? ?\* ?auto$"), AfterValidator(_above_zero)
]
LearningRate = Annotated[
    Literal["auto"] | Annotated[float, Field(gt=0, le=10)] | MultipleOfAuto,
    Field(description='Peak rate; auto finds it before the first step, "0.5 * auto" takes half of what is found.'),
]


def peak_rate(setting: float | str) -> tuple[float | None, float]:
    """The peak rate, None where it is to be found, and what a rate that is found is multiplied by."""
    if not isinstance(setting, str):
        return setting, 1.0
    factor, _, _ = setting.rpartition("*")
    return None, float(factor or 1)
