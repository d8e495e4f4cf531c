"""`method: auto`: what it stands for at each bound, that a resumed run keeps it, and what is said."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig
from typer.testing import CliRunner

from server.commands.app import app
from steerzo_edge import run_method
from steerzo_edge.errors import ProfileError
from steerzo_edge.estimate import Choice, anatomy, chosen, planned
from steerzo_edge.estimate.plan import RUNTIME_BYTES, bound_and_least
from steerzo_edge.estimate.work import Work
from steerzo_edge.run import Run
from steerzo_edge.settings.profile import resolve, with_method
from steerzo_edge.training.auto import FORWARD_ONLY
from steerzo_edge.training.exact import ExactConfig
from steerzo_edge.training.hybrid import HybridConfig
from tests.conftest import Loader, labelled_rows

LONG = Work(examples=32, longest=600, tokens=18_000, places=0, rows_tokens=500_000, mean=500)
# As SmolLM2-135M: large enough that a layer's adapter and inputs weigh more than a probe's copy and noise.
REAL = anatomy(
    LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        tie_word_embeddings=True,
    )
)
SUBSET = {"kind": "lora", "rank": 8, "freeze_a": False}
MIB = 1 << 20


def choice(**settings: object) -> Choice:
    settings = {"subset": SUBSET, **settings}
    found = chosen(resolve({"method": "auto", **settings}), REAL, LONG, device="cpu", free=1 << 34)
    assert found is not None
    return found


def least_mib(method: dict[str, object], **settings: object) -> int:
    profile = resolve({"method": method, "subset": SUBSET, **settings})
    return -(-(bound_and_least(profile, REAL, LONG, device="cpu")[1] + RUNTIME_BYTES) // MIB)


def test_the_bound_decides() -> None:
    exact, forwards = least_mib({"kind": "exact"}), least_mib({"kind": "all-losses"})
    hybrid = [least_mib({"kind": "hybrid", "exact_layers": layers}) for layers in range(1, 30)]
    assert forwards < hybrid[0] < exact
    assert hybrid == sorted(hybrid)
    taken = choice(memory=f"{exact} MiB")
    assert taken.profile.method == ExactConfig()
    assert taken.profile.rule.kind == "adam"
    assert f"at least {exact:,} MiB" in taken.sentence
    planned(taken.profile, REAL, LONG, device="cpu")  # it fits

    below = choice(memory=f"{exact - 1} MiB")
    layers = sum(least < exact for least in hybrid)
    assert below.profile.rule.kind == "adam"
    assert below.profile.method == HybridConfig(exact_layers=layers)
    assert f"hybrid, exact gradients for the top {layers} of 30 trained layers" in below.sentence
    assert f"exact gradients for all of them would need {exact:,} MiB" in below.sentence
    assert f"allows {exact - 1:,} MiB" in below.sentence
    planned(below.profile, REAL, LONG, device="cpu")

    without = choice(memory=f"{hybrid[0] - 1} MiB")
    assert without.profile.method == FORWARD_ONLY
    assert without.profile.rule.kind == "sgd"
    assert f"exact gradients for 1 of 30 trained layers (hybrid) would need {hybrid[0]:,} MiB" in without.sentence
    assert f"allows {hybrid[0] - 1:,} MiB" in without.sentence
    planned(without.profile, REAL, LONG, device="cpu")

    none = choice(memory=f"{forwards - 1} MiB")
    assert none.profile.method == FORWARD_ONLY
    with pytest.raises(ProfileError, match=f"takes at least {forwards:,} MiB"):
        planned(none.profile, REAL, LONG, device="cpu")


def test_a_single_trained_layer_leaves_none_for_hybrid() -> None:
    subset = {**SUBSET, "last_layers": 1}
    exact = least_mib({"kind": "exact"}, subset=subset)
    below = choice(memory=f"{exact - 1} MiB", subset=subset)
    assert below.profile.method == FORWARD_ONLY
    assert f"exact gradients would need {exact:,} MiB" in below.sentence


def test_the_layers_of_a_hybrid_method_are_chosen() -> None:
    method = {"kind": "hybrid", "estimator": {"kind": "two-point"}, "learning_rate": 0.5}
    rule = {"kind": "sgd", "learning_rate": 0.1}
    one, most = (least_mib({**method, "exact_layers": layers}, rule=rule) for layers in (1, 20))
    for memory, layers in ((most, 20), (one, 1)):
        profile = resolve({"method": method, "subset": SUBSET, "memory": f"{memory} MiB", "rule": rule})
        found = chosen(profile, REAL, LONG, device="cpu")
        assert found is not None
        taken = found.profile.method.exact_layers_of(30)
        assert taken >= layers  # more where they need no more: a probe's forward is then the highest point
        assert least_mib({**method, "exact_layers": taken + 1}, rule=rule) >= memory  # sizes are rounded up to MiB
        assert found.profile.rule == profile.rule
        assert found.profile.method.estimator == profile.method.estimator  # type: ignore[union-attr]
        assert "method hybrid: exact gradients for the top" in found.sentence
        planned(found.profile, REAL, LONG, device="cpu")
    little = resolve({"method": method, "subset": SUBSET, "memory": f"{one - 1} MiB", "rule": rule})
    found = chosen(little, REAL, LONG, device="cpu")
    assert found is not None
    with pytest.raises(ProfileError, match=f"takes at least {one:,} MiB"):
        planned(found.profile, REAL, LONG, device="cpu")


def test_fast_takes_what_is_free() -> None:
    assert choice(memory="fast").profile.method == ExactConfig()
    little = chosen(resolve({"method": "auto", "memory": "fast"}), REAL, LONG, device="cpu", free=64 * MIB)
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
    assert chosen(resolve({"method": {"kind": "two-point"}}), REAL, LONG, device="cpu") is None


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


def test_a_run_keeps_the_layers_that_it_began_with(
    tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny("nf4", torch.bfloat16)
    method = {"kind": "hybrid", "estimator": {"pool": 2, "epsilon": 0.01}, "learning_rate": 0.01}
    profile = resolve({"method": method, "memory": "fast", "steps": 3, "batch": {"examples": 4, "max_tokens": 64}})
    run = Run(tmp_path, base, profile, labelled_rows(), seed=1)
    assert run.profile.method.exact_layers_of(3) == 2  # one is left for the estimator
    assert run.advice().startswith("method hybrid: exact gradients for the top 2 of 3")
    list(islice(run.records(), 2))
    run.close()
    monkeypatch.setattr(run_method, "chosen", lambda *given, **named: pytest.fail("it was chosen already"))
    again = Run(tmp_path, base, profile, labelled_rows(), seed=1)
    assert again.profile == run.profile
    assert "hybrid with 2 layers of exact gradients, as the run began" in again.advice()
    list(again.records())
    assert again.progress.step == 3
    again.close()


def test_the_three_ways_are_shown_side_by_side() -> None:
    arguments = ["estimate", "--set", "batch.max_tokens=64", "--json"]
    ways = json.loads(CliRunner().invoke(app, arguments).output)["ways"]
    assert [way["method"] for way in ways] == [kind for kind in ("all-losses", "hybrid", "exact") for _ in range(2)]
    assert [way["exact_layers"] for way in ways[::2]] == [0, 2, 4]  # the profile trains the top four layers
    lean = [way["bytes"] for way in ways[::2]]
    assert lean[1] < lean[2]


def test_the_estimate_is_that_of_the_chosen_method() -> None:
    arguments = ["estimate", "--set", "method=auto", "--set", "memory=fast", "--json"]
    found = json.loads(CliRunner().invoke(app, arguments).output)
    assert found["advice"].startswith("method auto: exact gradients")
    assert "gradients" in found["zeroth_order"]
    exact = json.loads(
        CliRunner().invoke(app, ["estimate", "--set", "method.kind=exact", "--set", "memory=fast", "--json"]).output
    )
    assert exact["zeroth_order"] == found["zeroth_order"]
