"""The method section of a profile: every method that can be named, one line each."""

from typing import Annotated

from pydantic import Field

from steerzo_edge.training.auto import AutoConfig
from steerzo_edge.training.exact import ExactConfig
from steerzo_edge.zo.strategies.all_losses import AllLossesConfig
from steerzo_edge.zo.strategies.greedy import GreedyConfig
from steerzo_edge.zo.strategies.guiding_vector import GuidingVectorConfig
from steerzo_edge.zo.strategies.two_point import TwoPointConfig
from steerzo_edge.zo.strategies.weighted_guide import WeightedGuideConfig

MethodConfig = Annotated[
    TwoPointConfig
    | GuidingVectorConfig
    | GreedyConfig
    | AllLossesConfig
    | WeightedGuideConfig
    | ExactConfig
    | AutoConfig,
    Field(discriminator="kind"),
]  # fmt: skip
