"""The runs of a sweep, each with its checked profile."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from steerzo_edge.errors import Fault, ProfileError
from steerzo_edge.settings.profile import Profile
from steerzo_edge.sweep.grid import Changes, check_count


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep.

    Args:
        number: From 1.
        changes: Its settings, with dotted keys.
        profile: All its settings, checked.
        most_seconds: Seconds of training after which it is evaluated and ends; None sets no ceiling.
    """

    number: int
    changes: Changes
    profile: Profile
    most_seconds: float | None = None

    @property
    def key(self) -> str:
        """A name that depends on the changes alone, so that a longer sweep finds the runs of a shorter one."""
        return f"run-{sha256(json.dumps(self.changes, sort_keys=True).encode()).hexdigest()[:10]}"


def trials_of(
    resolved: Callable[[Mapping[str, Any]], Profile],
    settings: Sequence[Changes],
    *,
    most_steps: int | None = None,
    most_seconds: float | None = None,
) -> list[Trial]:
    """Checks the settings of all runs, so that nothing starts if one cannot be used.

    Args:
        resolved: The profile with some changes.
        settings: The changes of each run.
        most_steps: Ceiling of each run's steps.
        most_seconds: As in `Trial`.

    Raises:
        ProfileError: Naming every setting of every run that is wrong; if two runs would be the same; if a run needs
            another base; if there are no runs, or too many.
    """
    if not settings:
        raise ProfileError("there is nothing to try", hint="For example --set rule.learning_rate=0.005,0.01.")
    check_count(len(settings))
    found, faults = [], []
    for number, changes in enumerate(settings, 1):
        try:
            profile = resolved(changes)
        except ProfileError as error:
            where = f"run {number} ({in_words(changes)})"
            of_run = error.faults or (Fault("", "", "these settings", str(error)),)
            faults += [Fault(f"{where}: {one.where}".rstrip(": "), one.field, one.found, one.fix) for one in of_run]
            continue
        steps = profile.steps if most_steps is None else min(profile.steps, most_steps)
        profile = profile.model_copy(update={"steps": steps})
        found.append(Trial(number, dict(changes), profile, most_seconds))
    if faults:
        raise ProfileError("; ".join(map(str, faults)), faults=faults)
    _check_all(found)
    return found


def in_words(changes: Mapping[str, Any]) -> str:
    """Changes as a person writes them: "rule.learning_rate=0.01, method.pool=4"."""
    return ", ".join(f"{key}={'null' if value is None else value}" for key, value in changes.items())


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings that are not the same in all runs; of a single run all of its settings."""
    keys = list(dict.fromkeys(key for one in settings for key in one))
    if len(settings) == 1:
        return keys
    return [key for key in keys if any(key not in one or one[key] != settings[0].get(key) for one in settings)]


def _check_all(trials: Sequence[Trial]) -> None:
    first = trials[0]
    numbers: dict[str, int] = {}
    for trial in trials:
        if trial.profile.model != first.profile.model:
            raise ProfileError(
                f"run {trial.number} ({in_words(trial.changes)}) needs another base than run {first.number}",
                hint="A sweep has one base: make a sweep for each.",
            )
        same = numbers.setdefault(trial.profile.model_dump_json(), trial.number)
        if same != trial.number:
            raise ProfileError(
                f"run {trial.number} ({in_words(trial.changes)}) has the same settings as run {same}",
                hint="Leave one of them out.",
            )
