"""What `steerzo estimate` says, and when back-propagation is advised."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from server.commands.app import app
from steerzo_edge.errors import BaseModelError, ProfileError
from steerzo_edge.estimate import (
    Effort,
    MemoryEstimate,
    MemoryNeeds,
    advice,
    anatomy,
    estimate,
    free_bytes,
    load_config,
    step_effort,
    trained_by,
    work_of,
)
from steerzo_edge.estimate.cgroup import cgroup_free_bytes
from steerzo_edge.model.load import default_device
from steerzo_edge.settings.profile import resolve
from tests.conftest import labelled_rows

GIB = 1 << 30


def needing(own: float, lean: float, exact: float, checkpointed: float) -> MemoryEstimate:
    return MemoryEstimate(*(MemoryNeeds({"all": round(size * GIB)}) for size in (own, lean, exact, checkpointed)))


@pytest.mark.parametrize(
    ("free", "says", "does_not_say"),
    [
        (20, "zeroth-order is the wrong tool here", "fits only"),
        (14, "it fits only with gradient checkpointing (about 6.0 GiB)", "wrong tool"),
        (7, "not even with gradient checkpointing (6.0 GiB). Zeroth-order is what fits: about 5.0 GiB.", "10-100"),
        (4, "batch.probes_per_forward 1 and batch.prefix_memory_mib 0: about 3.0 GiB instead of 5.0 GiB", "10-100"),
        (2, "Zeroth-order needs about 3.0 GiB, which is too much as well", "10-100"),
    ],
)
def test_advice(free: int, says: str, does_not_say: str) -> None:
    found = advice(needing(5, 3, 12, 6), free * GIB, differentiable=True)
    assert says in found
    assert does_not_say not in found
    assert f"Back-propagation would need about 12.0 GiB and {free}.0 GiB are free" in found


@pytest.mark.parametrize("free", [1, 4, 1000])
def test_back_propagation_is_never_advised_without_a_gradient(free: int) -> None:
    found = advice(needing(5, 3, 12, 6), free * GIB, differentiable=False)
    assert "has no gradient" in found
    assert "would need" not in found
    assert "10-100" not in found


def test_only_the_likelihood_has_a_gradient() -> None:
    for objective in (
        {"kind": "accuracy"},
        {"kind": "f1"},
        {"kind": "exact-match"},
        {"kind": "scorer", "name": "x"},
    ):
        assert not resolve({"objective": objective}).objective.differentiable
    assert resolve({}).objective.differentiable
    assert resolve({"objective": {"option_mass": 0.5}}).objective.differentiable


def test_generated_answers_take_a_forward_for_each_token() -> None:
    body = anatomy(load_config("bundled"))

    def step(kind: str, **settings: Any) -> Effort:
        profile = resolve({"objective": {"kind": kind, **settings}, "subset": {"kind": "lora", "last_layers": 2}})
        return step_effort(profile, body, trained_by(profile, body), work_of(profile, 1024))

    plain, one, five, most = step("accuracy"), *(step("f1", max_new_tokens=n) for n in (1, 5)), step("exact-match")
    assert [five.forwards, five.tokens, five.numbers] == [plain.forwards, plain.tokens, plain.numbers]
    passes = one.layers / (2 * body.layers)  # the prompts and one token, through all layers
    assert (five.layers, most.layers) == (6 * passes * body.layers, 33 * passes * body.layers)
    assert plain.operations < five.operations < most.operations


def test_noise_is_counted_for_every_seed_of_a_step() -> None:
    cone = of(**{"method.kind": "two-point", "method.cone": {"terms": 7}}).zeroth_order["noise"]
    assert cone == 8 * of(**{"method.kind": "two-point"}).zeroth_order["noise"]
    pool = of(**{"method.kind": "greedy", "method.pool": 3, "method.cone": {"terms": 7}}).zeroth_order["noise"]
    assert 4 * pool == 5 * cone


def of(**changes: Any) -> MemoryEstimate:
    profile = resolve({}, changes)
    return estimate(profile, anatomy(load_config("bundled")), work_of(profile, 1024), device="cuda")


def test_each_setting_changes_its_part_of_the_estimate() -> None:
    plain = of()
    assert of(**{"batch.examples": 32}).exact["saved activations"] == 2 * plain.exact["saved activations"]
    assert of(**{"subset.last_layers": 2}).exact["saved activations"] * 4 == plain.exact["saved activations"]
    assert of(**{"model.quantization": "none"}).weights > 2 * plain.weights - 4096 * 8192
    assert plain.checkpointed.total < plain.exact.total
    assert plain.lean.total < plain.zeroth_order.total
    adam, momentum = (of(**{"rule.kind": kind}).zeroth_order["update rule"] for kind in ("adam", "momentum"))
    assert adam == 2 * momentum > plain.zeroth_order["update rule"] == 0
    assert of(**{"objective.option_mass": 0.5}).exact["logits"] > plain.exact["logits"] == 0


def test_free_memory_counts_the_loaded_base() -> None:
    import torch

    device = torch.device(default_device())
    assert free_bytes(device) > 0
    if device.type == "cpu":
        assert free_bytes(device, 1 << 40) > 1 << 40


@pytest.mark.parametrize("version", [1, 2])
def test_free_memory_ends_where_the_container_does(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if version == 1:
        files, cache = ("limit_in_bytes", "usage_in_bytes"), "total_inactive_file"
        home = tmp_path / "memory"
        home.mkdir()
    else:
        files, cache, home = ("max", "current"), "inactive_file", tmp_path
    for name, size in zip(files, ((1 << 20) + 500, 1 << 20), strict=True):
        (home / f"memory.{name}").write_text(f"{size}\n")
    (home / "memory.stat").write_text(f"anon 7\n{cache} 300\n")
    assert cgroup_free_bytes(tmp_path) == 800
    module = import_module("steerzo_edge.estimate.free")
    monkeypatch.setattr(module, "cgroup_free_bytes", lambda: cgroup_free_bytes(tmp_path))
    assert free_bytes(torch.device("cpu"), 1000) == 1800
    (home / f"memory.{files[0]}").write_text("9223372036854771712\n" if version == 1 else "max\n")
    assert free_bytes(torch.device("cpu")) > 1 << 20


def test_a_subset_that_does_not_fit() -> None:
    with pytest.raises(ProfileError, match="the base has 8 layers"):
        of(**{"subset.kind": "last-n-layers", "subset.layers": 9})
    with pytest.raises(ProfileError, match="no layer is called 'query'"):
        of(**{"subset.targets": ["query"]})


def test_a_base_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="cannot be loaded"):
        load_config(str(tmp_path))


def steerzo(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["estimate", *(str(argument) for argument in arguments)])


def test_the_command_prints_a_table_and_advice() -> None:
    done = steerzo()
    assert done.exit_code == 0, done.output
    for word in ("base weights", "saved activations", "total", "back-propagation", "are free"):
        assert word in done.output


def test_the_command_reads_config_and_rows_but_no_weights(tiny_path: Path, tmp_path: Path) -> None:
    bare = tmp_path / "base"
    bare.mkdir()
    for file in tiny_path.iterdir():
        if file.suffix != ".safetensors":
            (bare / file.name).write_bytes(file.read_bytes())
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in labelled_rows(30).rows()))
    settings = ("--base", bare, "--set", "batch.max_tokens=64", "--set", "subset.last_layers=2", "--json")
    whole, short = (json.loads(steerzo(*settings, *given).output) for given in ((), ("--dataset", rows)))
    assert short["tokens"] < whole["tokens"] == 16 * 64
    assert short["exact"]["total"] == sum(size for name, size in short["exact"].items() if name != "total")
    assert short["exact"]["saved activations"] < whole["exact"]["saved activations"]
    assert "advice" in short
    missing = steerzo("--dataset", "missing.jsonl")
    assert missing.exit_code == 2
    assert "there is no file 'missing.jsonl'" in missing.output


def test_another_base_does_not_keep_the_profiles_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def read(name: str, revision: str | None) -> Any:
        asked.append((name, revision))
        return load_config("bundled")

    monkeypatch.setattr(import_module("steerzo_edge.cli.estimate"), "load_config", read)
    for base in ((), ("--base", "org/other")):
        done = steerzo("--set", "model.id=org/first", "--set", "model.revision=v2", "--json", *base)
        assert done.exit_code == 0, done.output
    assert asked == [("org/first", "v2"), ("org/other", None)]


def test_the_command_reads_what_training_reads(tmp_path: Path) -> None:
    rows = tmp_path / "copa.jsonl"
    row = {"premise": "It faded.", "choice1": "It was old.", "choice2": "It was new.", "question": "cause"}
    rows.write_text("".join(json.dumps({**row, "label": i % 2}) + "\n" for i in range(12)))
    done = steerzo("--dataset", rows, "--task", "copa", "--json")
    assert done.exit_code == 0, done.output
    labelled = tmp_path / "rows.jsonl"
    labelled.write_text("".join(json.dumps(row) + "\n" for row in labelled_rows(30).rows()))
    options = tmp_path / "options.json"
    options.write_text(json.dumps({label: f"{label} in many more words" for label in labelled_rows(30).labels}))
    template = ("--template", "A long prompt before each text: {text} and after it")
    given: tuple[tuple[object, ...], ...] = ((), template, (*template, "--options", options))
    tokens = [json.loads(steerzo("--dataset", labelled, "--json", *more).output)["tokens"] for more in given]
    assert tokens[0] < tokens[1] < tokens[2]
    alone = steerzo("--task", "copa")
    assert alone.exit_code == 2
    assert "Give a --dataset too" in alone.output


@pytest.mark.parametrize("quantization", ["nf4", "int8", "none"])
def test_seconds_without_a_base_and_with_one(quantization: str, tiny_path: Path) -> None:
    """More steps take longer in proportion; the speed comes from a product, or from a layer of a loaded base."""
    settings = ("--base", tiny_path, "--set", f"model.quantization={quantization}", "--set", "batch.max_tokens=64")
    auto = ("--set", "method.epsilon=0.01", "--set", "rule.learning_rate=0.01", "--json")
    few, many, probed = (
        json.loads(steerzo(*settings, *auto, "--set", f"steps={steps}", *more).output)
        for steps, more in ((1000, ()), (100_000, ()), (100_000, ("--probe",)))
    )
    assert many["forwards"] == 100 * few["forwards"] == probed["forwards"]
    assert many["seconds"] > 10 * few["seconds"] > 0
    assert (few["source"], probed["source"]) == ("product", "layer")
    assert probed["seconds"] > 0  # without an upper bound: the layer may be timed on busy cores
    assert few["fits"] is (few["zeroth_order"]["total"] <= few["free"])
