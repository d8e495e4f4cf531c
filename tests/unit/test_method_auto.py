"""`method: auto`: what it stands for at each bound, that a resumed run keeps it, and what is said."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from server.commands.app import app
from steerzo_edge import run_method
from steerzo_edge.errors import ProfileError
from steerzo_edge.estimate import Choice, anatomy, chosen, load_config, planned
from steerzo_edge.estimate.plan import RUNTIME_BYTES, bound_and_least
from steerzo_edge.estimate.work import Work
from steerzo_edge.run import Run
from steerzo_edge.settings.profile import Profile, resolve, with_method
from steerzo_edge.training.auto import FORWARD_ONLY
from steerzo_edge.training.exact import ExactConfig
from tests.conftest import Loader, labelled_rows

BODY = anatomy(load_config("bundled"))
LONG = Work(examples=32, longest=600, tokens=18_000, places=0, rows_tokens=500_000, mean=500)
MIB = 1 << 20


def choice(**settings: object) -> Choice:
    found = chosen(resolve({"method": "auto", **settings}), BODY, LONG, device="cpu", free=1 << 34)
    assert found is not None
    return found


def least_mib(profile: Profile) -> int:
    return -(-(bound_and_least(profile, BODY, LONG, device="cpu")[1] + RUNTIME_BYTES) // MIB)


def test_the_bound_decides() -> None:
    exact, forwards = (least_mib(resolve({"method": {"kind": kind}})) for kind in ("exact", "all-losses"))
    assert forwards < exact
    taken = choice(memory=f"{exact} MiB")
    assert taken.profile.method == ExactConfig()
    assert taken.profile.rule.kind == "adam"
    assert f"at least {exact:,} MiB" in taken.sentence
    planned(taken.profile, BODY, LONG, device="cpu")  # it fits

    below = choice(memory=f"{exact - 1} MiB")
    assert below.profile.method == FORWARD_ONLY
    assert below.profile.rule.kind == "sgd"
    assert f"exact gradients would need {exact:,} MiB" in below.sentence
    assert f"allows {exact - 1:,} MiB" in below.sentence
    planned(below.profile, BODY, LONG, device="cpu")

    least = choice(memory=f"{forwards - 1} MiB")
    assert least.profile.method == FORWARD_ONLY
    with pytest.raises(ProfileError, match=f"takes at least {forwards:,} MiB"):
        planned(least.profile, BODY, LONG, device="cpu")


def test_fast_takes_what_is_free() -> None:
    assert choice(memory="fast").profile.method == ExactConfig()
    little = chosen(resolve({"method": "auto", "memory": "fast"}), BODY, LONG, device="cpu", free=64 * MIB)
    assert little is not None
    assert little.profile.method == FORWARD_ONLY


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"objective": {"kind": "accuracy"}}, "objective accuracy has no gradient"),
        ({"objective": {"kind": "f1"}}, "objective f1 has no gradient"),
        ({"objective": {"kind": "exact-match"}}, "objective exact-match has no gradient"),
        ({"subset": {"block_layers": 2}}, "block_layers"),
    ],
)
def test_what_has_no_gradient_goes_forward_only(settings: dict[str, object], reason: str) -> None:
    found = choice(memory="fast", **settings)
    assert found.profile.method == FORWARD_ONLY
    assert reason in found.sentence


def test_a_named_method_is_not_changed() -> None:
    assert chosen(resolve({"method": {"kind": "two-point"}}), BODY, LONG, device="cpu") is None


def test_a_rate_of_adam_is_kept() -> None:
    rule = {"kind": "adam", "learning_rate": 2e-4}
    assert choice(memory="fast", rule=rule).profile.rule.learning_rate == 2e-4
    assert with_method(resolve({"rule": rule}), FORWARD_ONLY).rule.learning_rate == 2e-4


def test_a_run_keeps_what_it_began_with(tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny("nf4", torch.bfloat16)
    profile = resolve({"method": "auto", "memory": "fast", "steps": 4, "batch": {"examples": 4, "max_tokens": 64}})
    run = Run(tmp_path, base, profile, labelled_rows(), seed=1)
    assert run.profile.method == ExactConfig()
    assert run.advice().startswith("method auto: exact gradients")
    list(islice(run.records(), 2))
    run.close()
    monkeypatch.setattr(run_method, "chosen", lambda *given, **named: pytest.fail("it was chosen already"))
    again = Run(tmp_path, base, profile, labelled_rows(), seed=1)
    assert again.profile == run.profile
    assert "as the run began" in again.advice()
    list(again.records())
    assert again.progress.step == 4
    again.close()


def test_the_estimate_is_that_of_the_chosen_method() -> None:
    arguments = ["estimate", "--set", "method=auto", "--set", "memory=fast", "--json"]
    found = json.loads(CliRunner().invoke(app, arguments).output)
    assert found["advice"].startswith("method auto: exact gradients")
    assert "gradients" in found["zeroth_order"]
    exact = json.loads(
        CliRunner().invoke(app, ["estimate", "--set", "method.kind=exact", "--set", "memory=fast", "--json"]).output
    )
    assert exact["zeroth_order"] == found["zeroth_order"]
