"""Pretraining: shapes, rows, the schedule, and runs that go on with the same bits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from steerzo_edge.errors import DivergedError, InputError
from tests.unit.pretraining.small import SETTINGS, VOCABULARY, pretraining, rows_of
from tools.pretrain_base.mix import Mix
from tools.pretrain_base.rows import Rows
from tools.pretrain_base.schedule import Schedule
from tools.pretrain_base.shape import PRESETS, Shape, fitting, random_model
from tools.pretrain_base.tokens import Corpus, load_corpora

# Shape


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_and_nothing_deeper_would(name: str) -> None:
    preset = PRESETS[name]
    shape = fitting(preset.budget_mb, preset.vocabulary)
    assert 0.9 * preset.budget_mb * 10**6 < shape.bytes <= preset.budget_mb * 10**6
    assert replace(shape, layers=shape.layers + 1).bytes > preset.budget_mb * 10**6
    assert 24 <= shape.width / shape.layers <= 40


@pytest.mark.parametrize("tied", [True, False])
def test_a_shape_counts_what_the_model_has(tied: bool) -> None:
    shape = Shape(VOCABULARY, 64, 2, tied)
    model = random_model(shape, 32, 0)
    assert model.num_parameters() == shape.parameters
    assert fitting(shape.bytes / 10**6, VOCABULARY, tied=tied).layers == 2
    state = torch.get_rng_state()
    torch.rand(3)
    again = random_model(shape, 32, 0)
    torch.set_rng_state(state)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_too_small_a_budget_is_refused() -> None:
    with pytest.raises(InputError, match="nothing fits"):
        fitting(0.01, VOCABULARY)


# Rows


def test_rows_keep_the_shares_and_start_with_whole_passes(prepared: Path, mix: Mix) -> None:
    rows = rows_of(prepared, mix)
    rows.next(60)
    assert rows.taken == [30, 20, 10]


def test_a_pass_has_every_row_once(prepared: Path, mix: Mix) -> None:
    (corpus, *_) = load_corpora(prepared, mix)
    rows = Rows([corpus], {"tales": 1.0}, 33, seed=0)
    a_pass = len(corpus.tokens) // 33
    both = rows.next(2 * a_pass)
    assert rows.passes() == [2.0]
    for found in both.split(a_pass):
        counted = torch.bincount(found.flatten(), minlength=VOCABULARY)
        whole = torch.bincount(torch.from_numpy(corpus.tokens.astype("int64")), minlength=VOCABULARY)
        assert (counted <= whole).all()
        assert int((whole - counted).sum()) == len(corpus.tokens) % 33
    assert not torch.equal(both[:a_pass], both[a_pass:])


def test_rows_go_on_where_they_were(prepared: Path, mix: Mix) -> None:
    rows, again = rows_of(prepared, mix), rows_of(prepared, mix)
    rows.next(77)
    again.go_to(rows.taken)
    assert torch.equal(rows.next(50), again.next(50))
    assert not torch.equal(rows_of(prepared, mix, seed=1).next(50), rows_of(prepared, mix).next(50))


def test_a_corpus_without_a_whole_row_is_refused(prepared: Path, mix: Mix) -> None:
    (corpus, *_) = load_corpora(prepared, mix)
    with pytest.raises(InputError, match="fewer than a row"):
        Rows([Corpus("tales", corpus.tokens[:9], corpus.starts)], {"tales": 1.0}, 33, seed=0)


# Schedule


@pytest.mark.parametrize("kind", ["wsd", "cosine"])
def test_the_rate_goes_up_and_down(kind: Any) -> None:
    schedule = Schedule(kind, warmup=10)
    shares = [schedule.share(step, 200) for step in range(200)]
    assert all(0 < share <= 1 for share in shares)
    assert shares[:10] == sorted(shares[:10])
    assert shares[10] == 1.0
    assert shares[150:] == sorted(shares[150:], reverse=True)
    assert shares[-1] < 0.11
    assert schedule.share(0, 1) > 0


def test_the_length_of_a_level_part_may_change() -> None:
    schedule = Schedule("wsd", warmup=10)
    assert [schedule.can_change(step, 200) for step in (5, 50, 149, 150, 199)] == [False, True, True, False, False]
    assert schedule.share(50, 200) == schedule.share(50, 2000) == 1.0
    assert schedule.fitted(10, 60, 0.5, 1000) == 130
    assert schedule.fitted(10, 60, 0.5, 50) == 50
    assert schedule.fitted(0, 0.1, 0.5, 50) == 1


def test_a_run_out_of_time_still_goes_down() -> None:
    schedule = Schedule("wsd", warmup=10)
    steps = schedule.fitted(75, -100, 0.5, 1000)
    assert steps == 100
    assert schedule.decay_start(steps) == 75
    assert schedule.share(steps - 1, steps) < 0.1
    assert Schedule("cosine").fitted(75, -100, 0.5, 1000) == 75


# Training


def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(prepared: Path, mix: Mix, tmp_path: Path) -> None:
    whole = pretraining(prepared, mix)
    losses = [step.loss for step in whole.run()]
    first = pretraining(prepared, mix)
    found = [step.loss for step in first.run(lambda: first.step >= 2)]
    first.save(tmp_path / "checkpoint.pt")
    second = pretraining(prepared, mix)
    second.restore(tmp_path / "checkpoint.pt")
    found += [step.loss for step in second.run()]
    assert found == losses
    assert losses[-1] < losses[0]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
        assert name.endswith("norm.weight") or not torch.equal(tensor, first.model.state_dict()[name])


def test_one_forward_or_two_give_the_same_gradient(prepared: Path, mix: Mix) -> None:
    steps = [next(pretraining(prepared, mix, replace(SETTINGS, forward_tokens=size)).run()) for size in (32, 128)]
    assert steps[0].loss == pytest.approx(steps[1].loss, rel=1e-5)
    assert steps[0].norm == pytest.approx(steps[1].norm, rel=1e-4)


def test_bfloat16_is_close_and_leaves_the_weights_float32(prepared: Path, mix: Mix) -> None:
    exact, close = (
        pretraining(prepared, mix, replace(SETTINGS, precision=kind)) for kind in ("float32", "bfloat16")
    )
    losses = [next(run.run()).loss for run in (exact, close)]
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert {parameter.dtype for parameter in close.model.parameters()} == {torch.float32}


def test_minutes_decide_how_many_steps_there_are(prepared: Path, mix: Mix) -> None:
    ticks = iter(range(10**6))
    # Every look at the clock is a second later: a step takes one, and four passes of the probe take one.
    settings = replace(SETTINGS, steps=None, minutes=1.0, passes=1e6, save_every=5)
    run = pretraining(prepared, mix, settings, clock=lambda: float(next(ticks)))
    lengths = [run.steps for _ in run.run()]
    assert lengths[0] == 60 * 4
    assert lengths[-1] == len(lengths) == 60


def test_few_texts_end_a_run_before_its_minutes(prepared: Path, mix: Mix) -> None:
    ticks = iter(range(10**6))
    settings = replace(SETTINGS, steps=None, minutes=1.0, passes=0.25)
    run = pretraining(prepared, mix, settings, clock=lambda: next(ticks) / 1000)
    assert len(list(run.run())) == run.steps
    assert 0.2 < max(run.passes()) <= 0.25


def test_a_checkpoint_of_something_else_is_refused(prepared: Path, mix: Mix, tmp_path: Path) -> None:
    run = pretraining(prepared, mix)
    run.save(tmp_path / "checkpoint.pt")
    other = pretraining(prepared, mix, replace(SETTINGS, learning_rate=1.0))
    with pytest.raises(InputError, match="other settings"):
        other.restore(tmp_path / "checkpoint.pt")
    pretraining(prepared, mix, replace(SETTINGS, save_every=1)).restore(tmp_path / "checkpoint.pt")


def test_what_is_not_finite_ends_the_run_before_it_is_applied(prepared: Path, mix: Mix) -> None:
    run = pretraining(prepared, mix)
    with torch.no_grad():
        run.model.model.norm.weight.fill_(float("inf"))
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    with pytest.raises(DivergedError):
        list(run.run())
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())
    assert run.step == 0
