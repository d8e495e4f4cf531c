"""Decides which base models may be loaded: the bundled one, those of the hub, and those under --models-dir."""

import re
from pathlib import Path
from typing import Final

from steerzo_edge.model.sources.bundled import BUNDLED

_HUB_ID: Final = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:[\w.-]+\.gguf)?$")


def is_allowed_base(name: str, directory: Path) -> bool:
    """Whether a base may be loaded when bases from this disk must be under one directory.

    Args:
        name: "bundled", a hub id, or a path.
        directory: The operator's directory; a link inside it that leads outside is refused.
    """
    if name == BUNDLED:
        return True
    # transformers treats a name that is an existing directory as a path, even if it looks like a hub id.
    if _HUB_ID.match(name) and not Path(name).exists():
        return True
    try:
        return Path(name).resolve().is_relative_to(directory.resolve())
    except (OSError, RuntimeError, ValueError):  # too long a name, circular links, a NUL
        return False
