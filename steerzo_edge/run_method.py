"""A method that is left to be chosen: chosen when the run begins, and read from its journal when it goes on."""

from pathlib import Path

from steerzo_edge.errors import JournalError
from steerzo_edge.estimate import anatomy, chosen, work_of
from steerzo_edge.model.base import Base
from steerzo_edge.run_data import Data
from steerzo_edge.settings.older_names import current_names
from steerzo_edge.settings.profile import Profile, resolve
from steerzo_edge.zo.journal import Journal


def settled(profile: Profile, base: Base, data: Data, directory: Path) -> tuple[Profile, str | None]:
    """The profile with a method that can run, and a sentence on the choice; the sentence is None without a choice.

    Args:
        profile: The settings.
        base: The frozen model.
        data: Tokenized rows.
        directory: Of the run; if it holds a journal, the method and rule of that are taken.
    """
    if profile.method.is_decided:
        return profile, None
    try:
        header, _ = Journal.read(directory / "journal")
    except (FileNotFoundError, JournalError):
        rows = [data.train] if data.validation is None else [data.train, data.validation]
        work = work_of(profile, base.context_length, *rows)
        found = chosen(profile, anatomy(base.model.config), work, device=base.device.type)
        assert found is not None
        return found.profile, found.sentence
    before = resolve(current_names(header.profile))
    update = {"method": before.method, "rule": before.rule}
    layers = getattr(before.method, "exact_layers", None)
    taken = before.method.kind + ("" if layers is None else f" with {layers} layers of exact gradients")
    return profile.model_copy(update=update), f"method {profile.method.kind}: {taken}, as the run began."
