"""Update rules, one file each."""

from steerzo_edge.zo.rules.adam import Adam
from steerzo_edge.zo.rules.momentum import Momentum
from steerzo_edge.zo.rules.sgd import SGD

__all__ = ["SGD", "Adam", "Momentum"]
