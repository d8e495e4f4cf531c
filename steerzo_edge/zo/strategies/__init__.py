"""The methods, one file each; a new one is a file here and a line in `sections.py`."""

from steerzo_edge.zo.strategies.all_losses import AllLosses
from steerzo_edge.zo.strategies.greedy import Greedy
from steerzo_edge.zo.strategies.guiding_vector import GuidingVector
from steerzo_edge.zo.strategies.two_point import TwoPoint
from steerzo_edge.zo.strategies.weighted_guide import WeightedGuide

__all__ = ["AllLosses", "Greedy", "GuidingVector", "TwoPoint", "WeightedGuide"]
