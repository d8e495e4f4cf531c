"""How good answers are: shares and means in [0, 1], from plain values. 1 is best."""

from collections import Counter
from collections.abc import Sequence

from steerzo_edge.data.normalization import normalized


def accuracy(answers: Sequence[int], chosen: Sequence[int]) -> float:
    """Share of examples whose chosen option is the right one.

    Args:
        answers: Index of the right option of each example, at least one.
        chosen: Index of the option that was chosen.
    """
    return _mean([answer == choice for answer, choice in zip(answers, chosen, strict=True)])


def balanced_accuracy(answers: Sequence[int], chosen: Sequence[int]) -> float:
    """Accuracy within each class, averaged over the classes that occur: 1 / classes by always saying the same.

    Args:
        answers: The class of each example, at least one.
        chosen: The class that was chosen.
    """
    pairs = list(zip(answers, chosen, strict=True))
    return _mean([_mean([a == c for a, c in pairs if a == label]) for label in dict.fromkeys(answers)])


def binary_f1(answers: Sequence[int], chosen: Sequence[int], positive: int = 1) -> float:
    """Harmonic mean of precision and recall of one class; 0 where no positive is found.

    Args:
        answers: The class of each example.
        chosen: The class that was chosen.
        positive: The class that is sought.
    """
    hits = sum(a == c == positive for a, c in zip(answers, chosen, strict=True))
    sought = sum(a == positive for a in answers) + sum(c == positive for c in chosen)
    return 2 * hits / sought if sought else 0.0


def token_f1(answer: str, references: Sequence[str]) -> float:
    """Overlap of an answer's words with the reference it fits best, after normalisation.

    Args:
        answer: What was generated.
        references: Answers that count as right, at least one.

    Source: arXiv:1606.05250 (SQuAD); two empty answers agree, as in arXiv:1806.03822.
    """
    return max(_overlap(normalized(answer).split(), normalized(reference).split()) for reference in references)


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 if an answer is one of the references after normalisation, else 0.

    Args:
        answer: What was generated.
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
