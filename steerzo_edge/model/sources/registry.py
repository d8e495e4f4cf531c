"""The kinds of sources, and which of them a name belongs to."""

from importlib import import_module
from typing import Final

from steerzo_edge.model.sources.source import Source, SourceKind

# One line each. The file is `sources/<word>.py`; the first kind that matches a name opens it.
ORDER: Final = (
    "bundled",
    "packed",
    "gguf",
    "directory",
    "hub",
)


def _kind(word: str) -> SourceKind:
    found: SourceKind = import_module(f"steerzo_edge.model.sources.{word}").SOURCE
    return found


SOURCES: Final = tuple(_kind(word) for word in ORDER)


def source_of(name: str, revision: str | None = None) -> Source:
    """Where a base comes from.

    Args:
        name: A hub id, the path of a directory, of a GGUF or packed file, `hub-id:FILE.gguf`, or "bundled".
        revision: Commit, tag or branch of a hub model.
    """
    return next(kind for kind in SOURCES if kind.matches(name)).opened(name, revision)
