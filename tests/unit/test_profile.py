"""Profiles: closed, described, and helpful when they are wrong."""

from pathlib import Path

import pytest

from steerzo_edge.errors import NotFoundError, ProfileError
from steerzo_edge.settings.older_names import current_names
from steerzo_edge.settings.profile import Profile, load_profile, profile_names, resolve
from steerzo_edge.settings.sections import LoraConfig

EXPECTED = {"cpu-demo", "cpu-135m", "gpu-6gb", "gpu-8gb", "gpu-12gb", "gpu-16gb", "gpu-24gb", "jetson-orin-8gb"}


def test_the_presets_are_all_there_and_all_parse() -> None:
    assert set(profile_names()) == EXPECTED
    for name in profile_names():
        profile = load_profile(name)
        assert profile.name == name
        assert profile.description


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"stpes": 3}, "did you mean 'steps' instead of 'stpes'"),
        ({"method": {"kind": "greedy", "pol": 3}}, "did you mean 'pool' instead of 'pol'"),
        ({"batch": {"exmaples": 3, "max_token": 4}}, "'max_tokens' instead of 'max_token'"),
        ({"zzz": 1}, "'zzz' is not one of"),
        ({"method": {"kind": "gready"}}, "gready"),
        ({"steps": 0}, "steps"),
        ({"method": {"kind": "two-point", "epsilon": -1}}, "epsilon"),
        ({"method": {"kind": "two-point", "scaling": "pool-std"}}, "pool-std"),
        ({"method": {"kind": "greedy", "scaling": "normalized", "clip": 2}}, "clip"),
        ({"method": {"kind": "greedy", "clip": 0.5}}, "clip"),
        ({"subset": {"kind": "lora", "rank": 9000}}, "rank"),
        ([1], "a profile is a mapping"),
    ],
)
def test_a_misspelt_setting_is_named_with_the_nearest_one(document: object, says: str) -> None:
    with pytest.raises(ProfileError, match=says):
        resolve(document)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ProfileError) as caught:
        resolve({"steps": "many", "batch": {"examples": 0}, "rule": {"kind": "sgd", "lr": 1}})
    assert len(caught.value.faults) == 3


def test_overrides_may_be_nested_or_dotted() -> None:
    nested = load_profile("cpu-demo", {"steps": 7, "method": {"pool": 4}, "batch": {"examples": 2}})
    dotted = load_profile("cpu-demo", {"steps": 7, "method.pool": 4, "batch.examples": 2})
    assert nested == dotted
    assert (nested.steps, nested.batch.examples) == (7, 2)
    assert nested.batch.max_tokens == load_profile("cpu-demo").batch.max_tokens


def test_another_kind_keeps_the_settings_it_knows() -> None:
    profile = load_profile("cpu-demo", {"method.kind": "two-point", "rule.kind": "adam"})
    assert profile.method.kind == "two-point"
    assert profile.method.epsilon == load_profile("cpu-demo").method.epsilon
    assert profile.rule.kind == "adam"
    assert profile.rule.learning_rate == load_profile("cpu-demo").rule.learning_rate


def test_an_override_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ProfileError, match="a value and to a group"):
        resolve({}, {"batch": 3, "batch.examples": 2})


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(NotFoundError) as caught:
        load_profile("gpu-8bg")
    assert "gpu-8gb" in caught.value.hint
    with pytest.raises(NotFoundError):
        load_profile("../pyproject")


def test_a_profile_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nsteps: 12\n")
    assert load_profile(path).steps == 12
    path.write_text("name: [")
    with pytest.raises(ProfileError, match="not YAML"):
        load_profile(path)
    with pytest.raises(NotFoundError, match="no profile file"):
        load_profile(tmp_path / "other.yaml")


def test_profiles_of_older_versions_are_read() -> None:
    old = {"subset": {"kind": "lora", "a": "inputs", "rank": 4}, "batch": {"cuda_graphs": False}, "steps": 3}
    subset = resolve(current_names(old)).subset
    assert isinstance(subset, LoraConfig)
    assert (subset.init_a, subset.rank) == ("input-subspace", 4)
    assert old["subset"] == {"kind": "lora", "a": "inputs", "rank": 4}
    assert resolve(current_names({"subset": {"kind": "core"}})).subset.kind == "lora-xs"
    today = resolve({}).model_dump(mode="json")
    assert current_names(today) == today


def test_every_setting_is_described() -> None:
    missing = []

    def walk(model: type, path: str) -> None:
        for name, field in model.model_fields.items():  # type: ignore[attr-defined]
            if name != "kind" and not field.description:
                missing.append(f"{path}.{name}")
            for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
                if hasattr(inner, "model_fields"):
                    walk(inner, f"{path}.{name}")

    walk(Profile, "profile")
    assert missing == []
