"""The objectives that the `objective` section of a profile can name.

A new objective is one file in `steerzo_edge/objectives` and one line in `_CONFIGS`.
"""

from functools import reduce
from importlib import import_module
from operator import or_
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from steerzo_edge.objectives.objective import ObjectiveConfig

# One line per objective: the module in `steerzo_edge.objectives`, and the subclass of `ObjectiveConfig` in it.
_CONFIGS = (
    "likelihood.LikelihoodConfig",
    "accuracy.AccuracyConfig",
    "generated.F1Config",
    "generated.ExactMatchConfig",
    "generated.ScorerConfig",
)


def _config(place: str) -> type[ObjectiveConfig]:
    module, name = place.split(".")
    found: type[ObjectiveConfig] = getattr(import_module(f"steerzo_edge.objectives.{module}"), name)
    return found


if TYPE_CHECKING:
    AnyObjectiveConfig = ObjectiveConfig
else:
    AnyObjectiveConfig = Annotated[reduce(or_, map(_config, _CONFIGS)), Field(discriminator="kind")]
