"""The base that ships with the package, in `steerzo_edge/assets/base`."""

from pathlib import Path
from typing import Final

from steerzo_edge.model.sources.checkpoint import Checkpoint
from steerzo_edge.model.sources.source import Source, SourceKind

BUNDLED: Final = "bundled"
DIRECTORY: Final = Path(__file__).parents[2] / "assets" / "base"


def _opened(name: str, revision: str | None) -> Source:
    return Checkpoint(name, str(DIRECTORY), revision)


SOURCE: Final = SourceKind(matches=lambda name: name == BUNDLED, opened=_opened)
