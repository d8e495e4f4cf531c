"""The zeroth-order methods, one line each."""

from steerzo_edge.zo.strategies.all_losses import AllLossesConfig
from steerzo_edge.zo.strategies.greedy import GreedyConfig
from steerzo_edge.zo.strategies.guiding_vector import GuidingVectorConfig
from steerzo_edge.zo.strategies.two_point import TwoPointConfig
from steerzo_edge.zo.strategies.weighted_guide import WeightedGuideConfig

ForwardOnly = (
    TwoPointConfig
    | GuidingVectorConfig
    | GreedyConfig
    | AllLossesConfig
    | WeightedGuideConfig
)  # fmt: skip
