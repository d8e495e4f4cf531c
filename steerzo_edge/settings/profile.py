"""Profiles: all settings of a run, by name or from a file, checked before work begins."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from steerzo_edge.config import Config
from steerzo_edge.errors import NotFoundError, ProfileError
from steerzo_edge.objectives.likelihood import LikelihoodConfig
from steerzo_edge.settings.memory import Memory
from steerzo_edge.settings.methods import MethodConfig
from steerzo_edge.settings.objectives import AnyObjectiveConfig
from steerzo_edge.settings.sections import (
    AdamConfig,
    BatchConfig,
    EvaluateConfig,
    LoraConfig,
    ModelConfig,
    RuleConfig,
    ScheduleConfig,
    SGDConfig,
    SubsetConfig,
    WatchConfig,
)
from steerzo_edge.settings.trackers import TrackerConfig
from steerzo_edge.zo.strategies.all_losses import AllLossesConfig

_HERE = Path(__file__).parent.parent
PLACES = (_HERE / "profiles", _HERE.parent / "profiles")
_UNIONS = {"subset": SubsetConfig, "objective": AnyObjectiveConfig, "method": MethodConfig, "rule": RuleConfig}


class Profile(Config):
    """Every setting of a run."""

    name: str = Field("custom", pattern=r"^[a-z0-9][a-z0-9-]{0,63}$", description="Kebab-case.")
    description: str = Field("", max_length=400, description="What it is for, in one sentence.")
    model: ModelConfig = Field(default_factory=ModelConfig, description="The base model.")
    subset: SubsetConfig = Field(default_factory=LoraConfig, description="What is trained.")
    objective: AnyObjectiveConfig = Field(default_factory=LikelihoodConfig, description="What is minimised.")
    method: MethodConfig = Field(default_factory=AllLossesConfig, description="How the gradient is estimated.")
    rule: RuleConfig = Field(default_factory=SGDConfig, description="How parameters move along it.")
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig, description="The rate over the steps.")
    batch: BatchConfig = Field(default_factory=BatchConfig, description="Rows of a step.")
    memory: Memory = "lean"
    steps: int = Field(1000, ge=1, le=10_000_000, description="Length of the run.")
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig, description="Evaluations during the run.")
    watch: WatchConfig = Field(default_factory=WatchConfig, description="What happens when a run fails.")
    trackers: tuple[TrackerConfig, ...] = Field(
        (), max_length=8, description="Where the run's numbers are sent too: TensorBoard, MLflow, Weights & Biases."
    )

    @field_validator("trackers")
    @classmethod
    def _trackers_differ(cls, value: tuple[TrackerConfig, ...]) -> tuple[TrackerConfig, ...]:
        for place, config in enumerate(value):
            if config in value[:place]:
                raise PydanticCustomError("twice", "two trackers are the same: {kind}", {"kind": config.kind})
        return value

    @model_validator(mode="after")
    def _exact_gradients_are_possible(self) -> Self:
        if self.method.needs_gradients:
            reason = _why_not_exact(self)
            if reason is not None:
                kind = self.method.kind
                raise PydanticCustomError("not_exact", "method {kind}: {reason}", {"kind": kind, "reason": reason})
        return self

    def identity(self) -> dict[str, Any]:
        """What must be equal for a run to continue: all settings but the trackers, as JSON-ready values."""
        return self.model_dump(mode="json", exclude={"trackers"})


def profile_names() -> list[str]:
    """The profiles that ship with the package, sorted."""
    return sorted({path.stem for place in PLACES for path in place.glob("*.yaml")})


def load_profile(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Profile:
    """A profile by name or from a YAML file, with changes.

    Args:
        name: One of `profile_names()`, or the path of a .yaml file.
        overrides: Settings to change, nested or with dotted keys: {"steps": 300, "method.pool": 4}.

    Raises:
        NotFoundError: If there is no such profile; the message names the nearest.
        ProfileError: Naming every setting that is wrong.
    """
    return resolve(_document(name), overrides, where=f"profile {str(name)!r}")


def resolve(document: Any, overrides: Mapping[str, Any] | None = None, *, where: str = "profile") -> Profile:
    """A parsed profile from a plain document and changes to it.

    Raises:
        ProfileError: Naming every setting that is wrong.
    """
    if not isinstance(document, Mapping):
        raise ProfileError(f"{where}: found {type(document).__name__}; a profile is a mapping of settings")
    return Profile.parse(_merged(document, _nested(overrides or {})), where=where, error=ProfileError)


def searches(profile: Profile) -> bool:
    """Whether a run spends forwards on settings left to "auto" before its first step."""
    return profile.method.searches(profile.rule.learning_rate)


def with_method(profile: Profile, method: MethodConfig) -> Profile:
    """The profile with another method, and with the rule that goes with it: Adam for exact gradients."""
    document = profile.model_dump(mode="json")
    changes: dict[str, Any] = {"method": method.model_dump(mode="json")}
    if isinstance(profile.rule, AdamConfig):
        changes["rule"] = document["rule"]
    return resolve(document | {"method": None}, changes)


def _why_not_exact(profile: Profile) -> str | None:
    if not profile.objective.differentiable:
        return (
            f"objective {profile.objective.kind} has no gradient; use a method that needs none, such as all-losses"
        )
    if profile.subset.block_layers is not None:
        return "subset.block_layers is for methods that perturb a part of the layers; leave it out"
    if isinstance(profile.rule.learning_rate, str) and not isinstance(profile.rule, AdamConfig):
        return f"rule {profile.rule.kind} has no automatic rate here; give rule.learning_rate, or use rule adam"
    return None


def _document(name: str | Path) -> Any:
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise NotFoundError(f"there is no profile file {str(path)!r}", hint="Check the path.")
    else:
        found = [place / f"{name}.yaml" for place in PLACES if (place / f"{name}.yaml").is_file()]
        if not found or Path(name).name != str(name):
            raise _unknown(str(name))
        path = found[0]
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"profile {str(name)!r} is not YAML: {error}") from None


def _unknown(name: str) -> NotFoundError:

    names = profile_names()
    near = get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return NotFoundError(f"there is no profile {name!r}", hint=f"{hint}There are: {', '.join(names)}.")


def _nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """{"method.pool": 4} as {"method": {"pool": 4}}."""
    nested: dict[str, Any] = {}
    for key, value in overrides.items():
        *path, last = key.split(".")
        place = nested
        for part in path:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ProfileError(f"override {key!r}: {part!r} is set to a value and to a group of settings")
            place = inner
        value = _nested(value) if isinstance(value, Mapping) else value
        if isinstance(value, dict) and isinstance(place.get(last), dict):
            place[last] |= value
        else:
            place[last] = value
    return nested


def _merged(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The document with changes; a section without `kind` gets the default kind."""
    merged = dict(document)
    if merged.get("method") == "auto":
        merged["method"] = {"kind": "auto"}
    changes = {
        key: {"kind": "auto"} if (key, value) == ("method", "auto") else value for key, value in changes.items()
    }
    for section in _UNIONS:
        if isinstance(merged.get(section, {}), Mapping):
            default = Profile.model_fields[section].get_default(call_default_factory=True).kind
            if section == "rule":
                default = _default_rule(document) or default
            merged[section] = {"kind": default, **merged.get(section, {})}
    if _default_rule(changes) == "adam" and not _kind(changes, "rule") and _kind(merged, "rule") != "adam":
        merged["rule"] = {"kind": "adam"}  # a profile's rule was chosen for its method
    for key, value in changes.items():
        old = merged.get(key)
        if not isinstance(value, Mapping) or not isinstance(old, Mapping):
            merged[key] = value
            continue
        if key in _UNIONS and value.get("kind", old.get("kind")) != old.get("kind"):
            old = _common(key, old, value["kind"])
        merged[key] = {**old, **value}
    return merged


def _kind(document: Mapping[str, Any], section: str) -> Any:
    found = document.get(section)
    return found.get("kind") if isinstance(found, Mapping) else None


def _default_rule(document: Mapping[str, Any]) -> str | None:
    """The kind of rule that goes with the method that a document names; None if it names none."""
    config = _config("method", _kind(document, "method"))
    return None if config is None else config.default_rule


def _config(section: str, kind: Any) -> Any:
    """The settings class of a kind; None if there is none."""
    configs = get_args(get_args(_UNIONS[section])[0])
    return next((config for config in configs if config.model_fields["kind"].default == kind), None)


def _common(section: str, settings: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """The settings of a section that remain when its kind changes: those that the new kind has too."""
    config = _config(section, kind)
    known = {} if config is None else config.model_fields
    return {key: value for key, value in settings.items() if key in known and key != "kind"}
