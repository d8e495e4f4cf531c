"""The setting `memory`: the plan that it leads to, and that a batch in parts has the losses of the whole batch."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from steerzo_edge import assemble as assembling
from steerzo_edge.assemble import assemble, plan_of
from steerzo_edge.errors import ProfileError
from steerzo_edge.estimate import Plan, anatomy, estimate, load_config, planned
from steerzo_edge.estimate.plan import RUNTIME_BYTES
from steerzo_edge.estimate.work import Work
from steerzo_edge.run_data import Data, tokenized
from steerzo_edge.settings.memory import memory_bytes
from steerzo_edge.settings.older_names import current_names
from steerzo_edge.settings.profile import Profile, resolve
from steerzo_edge.training.parts import Parts
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.oracle import Round
from steerzo_edge.zo.strategy import Probe
from tests.conftest import DATASETS, Loader

GIB = 1 << 30
PROBES = tuple(Probe(Direction.seeded(seed), 0.05) for seed in range(3))
BODY = anatomy(load_config("bundled"))
LONG = Work(examples=32, longest=600, tokens=18_000, places=0, rows_tokens=500_000, mean=500)


def total(profile: Profile, work: Work = LONG) -> int:
    return estimate(profile, BODY, work, device="cpu").zeroth_order.total


@pytest.mark.parametrize("places", [0, 8, 400])
@pytest.mark.parametrize("last_layers", [2, None])
@pytest.mark.parametrize("rank", [2, 16])
@pytest.mark.parametrize("work", [LONG, replace(LONG, examples=4, tokens=60, longest=20, mean=12, rows_tokens=900)])
def test_lean_takes_no_more_than_exact_gradients(
    work: Work, rank: int, last_layers: int | None, places: int
) -> None:
    work = replace(work, places=places)
    found = estimate(resolve({"subset": {"rank": rank, "last_layers": last_layers}}), BODY, work, device="cpu")
    assert found.zeroth_order.total <= found.checkpointed.total
    fast = estimate(
        resolve({"subset": {"rank": rank, "last_layers": last_layers}, "memory": "fast"}), BODY, work, device="cpu"
    )
    assert fast.zeroth_order.total > found.zeroth_order.total
    assert fast.checkpointed.total == found.checkpointed.total


@pytest.mark.parametrize("size", ["500 MiB", "1GiB", "2.5 GiB"])
def test_a_size_is_kept_to(size: str) -> None:
    bound = memory_bytes(size)
    assert bound is not None
    assert RUNTIME_BYTES + total(resolve({"memory": size})) <= bound


def test_more_memory_is_used_for_more_probes_in_a_forward() -> None:
    sizes = ("450 MiB", "580 MiB", "1 GiB", "4 GiB")
    plans = [planned(resolve({"memory": size}), BODY, LONG, device="cpu") for size in sizes]
    assert plans == sorted(plans, key=lambda plan: (plan.probes, plan.part_tokens, plan.noise_bytes))
    assert plans[0].probes == 1 < plans[-1].probes
    assert plans[0].part_tokens < LONG.tokens <= plans[-1].part_tokens
    assert plans[0].noise_bytes < plans[-1].noise_bytes


def test_a_size_that_cannot_be_kept_to_is_refused() -> None:
    with pytest.raises(ProfileError, match=r"memory is '320 MiB', but this run takes at least [0-9]+ MiB"):
        planned(resolve({"memory": "320 MiB"}), BODY, LONG, device="cpu")


@pytest.mark.parametrize("setting", ["fat", "2", "2 GB", "-1 GiB", ""])
def test_other_settings_are_refused(setting: str) -> None:
    with pytest.raises(ProfileError, match="memory"):
        resolve({"memory": setting})


def test_fast_is_bounded_by_what_is_free() -> None:
    """With ample memory it stacks as many probes as were always stacked."""
    fast = resolve({"memory": "fast"})
    short = replace(LONG, longest=20, tokens=600, mean=15)
    assert planned(fast, BODY, short, device="cpu", free=64 * GIB) == Plan(
        16, 640, 640, 256 << 20, 512 << 20, 16 << 20, False
    )
    assert planned(fast, BODY, LONG, device="cpu", free=64 * GIB).probes == 65_536 // 19_200
    little = planned(fast, BODY, LONG, device="cpu", free=GIB // 4)
    assert little.probes < 3
    assert little.noise_bytes < 256 << 20


def test_explicit_settings_win() -> None:
    """Over the bound of `lean` too."""
    asked = resolve({"batch": {"probes_per_forward": 5, "prefix_memory_mib": 100}, "memory": "lean"})
    plan = planned(asked, BODY, LONG, device="cpu")
    assert (plan.probes, plan.prefix_bytes) == (5, 100 << 20)


def test_a_profile_from_before_the_setting_keeps_its_use_of_memory() -> None:
    old: dict[str, Any] = {"batch": {"prefix_memory_mib": 512, "probes_per_forward": "auto"}}
    assert current_names(old)["memory"] == "fast"
    today = resolve({}).model_dump(mode="json")
    assert current_names(today) == today


def cut(parts_of: partial[Parts], most: int, monkeypatch: pytest.MonkeyPatch) -> Parts:
    with monkeypatch.context() as patched:
        patched.setattr(assembling, "plan_of", lambda *run: replace(plan_of(*run), part_tokens=most))
        return parts_of()


@pytest.mark.parametrize("subset", [{}, {"last_layers": 1}, {"block_layers": 1}], ids=str)
@pytest.mark.parametrize("rows", DATASETS)
def test_a_batch_in_parts_has_the_losses_of_the_whole(
    tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: str, subset: dict[str, Any]
) -> None:
    base = tiny("none", torch.float32)
    profile = resolve(
        {
            "subset": {"rank": 4, **subset},
            "method": {"epsilon": 0.05},
            "rule": {"learning_rate": 0.05},
            "objective": {"option_mass": 0.5},
            "batch": {"examples": 7, "max_tokens": 64},
        }
    )
    data = tokenized(base.tokenizer, base.context_length, profile, DATASETS[rows](), None, seed=5)
    parts_of = partial(assemble, base, profile, Data(data.train, None), seed=5)
    whole = parts_of()
    forwards = 0
    hidden = type(base).hidden

    def counting(*given: Any, **named: Any) -> Any:
        nonlocal forwards
        forwards += 1
        return hidden(*given, **named)

    for step in range(3):
        expected = whole.oracle.evaluate(Round(step, 0, PROBES))
        most = max(len(row.tokens) for row in whole.batches(step).packed.rows)
        split = cut(parts_of, 2 * most, monkeypatch)
        with monkeypatch.context() as patched:
            patched.setattr(type(base), "hidden", counting)
            found = split.oracle.evaluate(Round(step, 0, PROBES))
        assert found == pytest.approx(expected, rel=2e-5, abs=2e-5)
        assert len(set(expected)) == len(PROBES)
    assert forwards > 3
