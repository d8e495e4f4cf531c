"""Where bases may come from: the bundled one, the hub, and directories under the operator's own."""

import re
from pathlib import Path
from typing import Final

from steerzo_edge.model.load import BUNDLED

_HUB_ID: Final = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")


def is_allowed_base(name: str, directory: Path) -> bool:
    """Whether a base may be loaded where those from this disk must lie under one directory.

    Args:
        name: "bundled", a hub id, or a path.
        directory: The operator's; links in it are followed, also out of it: that is refused.
    """
    if name == BUNDLED:
        return True
    # transformers takes a name for a directory before it takes it for a hub id.
    if _HUB_ID.match(name) and not Path(name).exists():
        return True
    try:
        return Path(name).resolve().is_relative_to(directory.resolve())
    except (OSError, RuntimeError, ValueError):  # a name too long, links in a circle, a NUL
        return False
