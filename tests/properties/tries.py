"""How many examples a test of properties tries.

STEERZO_FUZZ=20 tries twenty times as many.
"""

import os

from hypothesis import settings

MORE = int(os.environ.get("STEERZO_FUZZ", "1"))


def tried(examples: int) -> settings:
    return settings(max_examples=examples * MORE, deadline=None)
