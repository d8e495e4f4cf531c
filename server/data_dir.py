"""Where a server keeps its data. Its other settings import torch, which `steerzo keys` does without."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

DEFAULT: Final = Path.home() / ".steerzo"


def data_dir_of(environment: Mapping[str, str], option: Path | None = None) -> Path:
    """The directory of the database, uploads, journals and adapters.

    Args:
        environment: For example `os.environ`; an empty variable counts as unset.
        option: Of the command line; it takes precedence.
    """
    return option or Path(environment.get("STEERZO_DATA_DIR") or DEFAULT)
