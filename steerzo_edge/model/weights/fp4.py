"""fp4: 4-bit floating-point codes, with float32 scales."""

from typing import Final

from steerzo_edge.model.weights.four_bit import FourBit
from steerzo_edge.model.weights.storage import Storage

STORAGE: Final[Storage] = FourBit("fp4", double_quantization=False)
