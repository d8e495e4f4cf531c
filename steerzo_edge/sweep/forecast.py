"""How long the runs of a sweep take and how much memory they need, before the first one starts."""

from collections.abc import Sequence
from dataclasses import dataclass

from steerzo_edge.data.examples import Dataset
from steerzo_edge.errors import Fault, InputError, ProfileError
from steerzo_edge.estimate import Survey, chosen, estimate, free_bytes, run_effort, survey, trained_by, work_of
from steerzo_edge.model.base import Base
from steerzo_edge.model.layers import layer_index
from steerzo_edge.run_data import Data, rows_of_run
from steerzo_edge.settings.profile import Profile
from steerzo_edge.sweep.trials import Trial, in_words


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one run is expected to need.

    Args:
        seconds: From the measured speed of one layer; not above the run's ceiling.
        bytes: Memory of the device, the base included.
        fits: Whether so much is free.
    """

    seconds: float
    bytes: int
    fits: bool


def forecasts(
    base: Base, trials: Sequence[Trial], train: Dataset, validation: Dataset | None, seed: int
) -> list[Forecast]:
    """The forecast of each run; also checks that rows and settings fit each other and the base.

    Args:
        base: The loaded base.
        trials: The runs.
        train: Rows to learn from.
        validation: Rows to evaluate on; None sets some of the others aside.
        seed: Of all runs.

    Raises:
        ProfileError: Naming every run whose settings do not fit the rows or the base.
    """
    measured = survey(base)
    read: dict[str, Data] = {}
    found, faults = [], []
    for trial in trials:
        profile = trial.profile
        parts = (profile.batch.max_tokens, profile.evaluate, profile.objective)
        key = repr(parts)
        try:
            layers = {layer_index(name) for name in profile.subset.chosen(base)}
            profile.method.exact_layers_of(len(layers))
            if key not in read:
                read[key] = rows_of_run(base.tokenizer, base.context_length, profile, train, validation, seed)[2]
        except InputError as error:
            faults.append(Fault(f"run {trial.number}", "", in_words(trial.changes), str(error)))
            continue
        found.append(_forecast(base, measured, profile, read[key], trial.most_seconds))
    if faults:
        raise ProfileError("; ".join(map(str, faults)), faults=faults)
    return found


def _forecast(base: Base, measured: Survey, profile: Profile, data: Data, most_seconds: float | None) -> Forecast:
    both = [part for part in (data.train, data.validation) if part is not None]
    work = work_of(profile, base.context_length, *both)
    choice = chosen(profile, measured.body, work, device=base.device.type)
    profile = profile if choice is None else choice.profile
    needed = estimate(profile, measured.body, work, device=base.device.type)
    seconds = run_effort(profile, measured.body, trained_by(profile, measured.body), work).seconds(measured.speed)
    total = needed.zeroth_order.total
    fits = total <= free_bytes(base.device, needed.weights)
    return Forecast(seconds if most_seconds is None else min(seconds, most_seconds), total, fits)
