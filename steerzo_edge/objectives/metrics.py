"""Metrics of answers: shares and means in [0, 1], from plain values. 1 is best."""

from collections import Counter
from collections.abc import Sequence

from steerzo_edge.data.normalization import normalized


def accuracy(right: Sequence[int], chosen: Sequence[int]) -> float:
    """Share of examples whose chosen option is the right one.

    Args:
        right: Index of the right option of each example, at least one.
        chosen: Index of the option that was chosen.
    """
    return _mean([a == c for a, c in zip(right, chosen, strict=True)])


def balanced_accuracy(right: Sequence[int], chosen: Sequence[int]) -> float:
    """Accuracy within each class, averaged over the classes that occur; a constant choice gets 1 / classes.

    Args:
        right: The right class of each example, at least one.
        chosen: The class that was chosen.
    """
    pairs = list(zip(right, chosen, strict=True))
    return _mean([_mean([a == c for a, c in pairs if a == label]) for label in dict.fromkeys(right)])


def binary_f1(right: Sequence[int], chosen: Sequence[int], positive: int = 1) -> float:
    """Harmonic mean of precision and recall of one class; 0 without a hit.

    Args:
        right: The right class of each example.
        chosen: The class that was chosen.
        positive: The class whose F1 it is.
    """
    hits = sum(a == c == positive for a, c in zip(right, chosen, strict=True))
    positives = sum(a == positive for a in right) + sum(c == positive for c in chosen)
    return 2 * hits / positives if positives else 0.0


def token_f1(answer: str, references: Sequence[str]) -> float:
    """F1 overlap of an answer's words with the reference that it fits best, after normalisation.

    Args:
        answer: The generated text.
        references: Answers that count as right, at least one.

    Source: arXiv:1606.05250 (SQuAD); two empty answers agree, as in arXiv:1806.03822.
    """
    return max(_overlap(normalized(answer).split(), normalized(reference).split()) for reference in references)


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 if an answer is one of the references after normalisation, else 0.

    Args:
        answer: The generated text.
        references: Answers that count as right, at least one.

    Source: arXiv:1606.05250 (SQuAD).
    """
    return float(normalized(answer) in {normalized(reference) for reference in references})


def _overlap(words: Sequence[str], reference: Sequence[str]) -> float:
    if not words or not reference:
        return float(words == reference)
    common = (Counter(words) & Counter(reference)).total()
    return 2 * common / (len(words) + len(reference))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
