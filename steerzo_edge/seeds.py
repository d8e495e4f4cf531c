"""Seeds from seeds. Randomness is passed or derived here, never taken from a global generator."""

import hashlib
from collections.abc import Iterator
from itertools import count


def derive_seed(*parts: int | str) -> int:
    """A 32-bit seed from any integers and strings.

    32 bits, because torch's CPU generator uses no more of a seed.
    """
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def step_seeds(seed: int, step: int) -> Iterator[int]:
    """Endless candidate seeds of one step: a pure function of (run seed, step)."""
    return (derive_seed("candidate", seed, step, index) for index in count())
