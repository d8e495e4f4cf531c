"""The journal of a run's directory: its header, and whether a run may go on with a journal that is there."""

from pathlib import Path

import torch
import transformers

from steerzo_edge import __version__
from steerzo_edge.errors import JournalError
from steerzo_edge.model.base import Base
from steerzo_edge.settings.older_names import current_names
from steerzo_edge.settings.profile import Profile
from steerzo_edge.zo.journal import Header, Journal
from steerzo_edge.zo.noise import Noise

# Fields of the header that must be equal for a run to resume a journal. Versions of libraries are recorded but not
# compared: the fingerprint of the noise shows whether they draw the same numbers.
MUST_AGREE = ("seed", "size", "base", "data", "validation", "noise", "profile")

_OTHER_RUN = "Finish it with the same base, data, profile and kind of device, or use a new directory."
_OTHER_ROWS = (
    "Finish it with the same rows, or use a new directory. If the file is the same, this version reads a field or "
    "a control token in it differently than the one that began the run (see CHANGELOG.md): finish it with that one."
)


def header_of_run(
    base: Base, profile: Profile, seed: int, noise: Noise, *, data: str, validation: str | None
) -> Header:
    """The header of a run's journal.

    Args:
        base: The frozen model.
        profile: The settings, with nothing left to choose.
        seed: Of everything random.
        noise: Of the trained parameters.
        data: Fingerprint of the rows to learn from, as they are read.
        validation: The same of the rows to evaluate on, if a file of its own has them.
    """
    return Header(
        seed=seed,
        size=noise.size,
        base=base.fingerprint,
        data=data,
        validation=validation,
        noise=noise.fingerprint(),
        device=base.device_kind,
        profile=profile.identity(),
        versions={
            "steerzo-edge": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    )


def opened(path: Path, header: Header) -> Journal:
    """The journal at a path: a new one, or the one that is there, to go on with.

    Raises:
        JournalError: If the one that is there belongs to another run, or cannot be read.
    """
    if not path.exists():
        return Journal.create(path, header)
    journal = Journal.reopen(path)
    written = journal.header.model_copy(update={"profile": current_names(journal.header.profile)})
    other = [name for name in MUST_AGREE if getattr(written, name) != getattr(header, name)]
    if other:
        journal.close()
        raise JournalError(
            f"{path} was written with another {other[0]}, so this run cannot continue it",
            hint=_OTHER_ROWS if other[0] in ("data", "validation") else _OTHER_RUN,
        )
    return journal
