"""Scorers as an operator might write them, registered by the tests that need them."""

from collections.abc import Sequence


def checksum(prompt: str, answer: str, references: Sequence[str]) -> float:
    """Different for nearly every answer."""
    return sum(answer.encode()) % 101 / 100


def fails_on_some(prompt: str, answer: str, references: Sequence[str]) -> float:
    if len(answer) % 2:
        raise KeyError("no such answer")
    return 0.5


def gives_no_number(prompt: str, answer: str, references: Sequence[str]) -> object:
    return {"nan": float("nan"), "text": "good", "large": 1.5, "none": None}[prompt]


def sees(prompt: str, answer: str, references: Sequence[str]) -> float:
    SEEN.append((prompt, answer, tuple(references)))
    return 1.0


SEEN: list[tuple[str, str, tuple[str, ...]]] = []
