"""Rows set aside for validation: never a line of the file on both sides."""

import torch

from steerzo_edge.data.examples import Completion, Dataset
from steerzo_edge.run_data import split
from steerzo_edge.seeds import derive_seed
from steerzo_edge.settings.profile import Profile, resolve


def rows(*lines: int) -> Dataset:
    return Dataset("completion", tuple(Completion(str(i), "a") for i in range(len(lines))), lines)


def holding(share: float, examples: int = 200) -> Profile:
    return resolve({}, {"evaluate.holdout": share, "evaluate.examples": examples})


def test_examples_of_a_line_stay_together() -> None:
    dataset = rows(*(line for line in range(1, 41) for _ in range(5)))
    for seed in range(5):
        train, held = split(dataset, holding(0.2), seed)
        assert held is not None
        assert not set(train.lines) & set(held.lines)
        assert len(train) == 160
        assert len(held) == 40
        both = [*train.examples, *held.examples]
        assert sorted(both, key=lambda example: int(str(example.row()["prompt"]))) == list(dataset.examples)
    assert len(split(dataset, holding(0.2, 7), 0)[1] or ()) == 10  # whole lines, thinned out later


def test_one_example_a_line_is_split_as_ever() -> None:
    """Runs that were started before lines counted can continue: their journals hold both fingerprints."""
    dataset = rows(*range(3, 53))
    train, held = split(dataset, holding(0.3), 7)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(derive_seed("holdout", 7))).tolist()
    assert held == dataset.pick(sorted(order[:15]))
    assert train == dataset.pick(sorted(order[15:]))


def test_the_line_with_most_examples_stays_in_training() -> None:
    dataset = rows(*[1] * 30)
    assert split(dataset, holding(0.5), 0) == (dataset, None)
    for seed in range(4):
        train, held = split(rows(*[1] * 30, 2, 3), holding(0.5), seed)
        assert held is not None
        assert (set(train.lines), set(held.lines)) == ({1}, {2, 3})
