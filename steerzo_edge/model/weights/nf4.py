"""nf4: 4-bit codes of a normal distribution's quantiles, with double quantization. Source: arXiv:2305.14314."""

from typing import Final

from steerzo_edge.model.weights.four_bit import FourBit
from steerzo_edge.model.weights.storage import Storage

STORAGE: Final[Storage] = FourBit("nf4", double_quantization=True)
