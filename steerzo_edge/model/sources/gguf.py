"""GGUF files, the format of llama.cpp: a file, a directory with one, or `hub-id:FILE.gguf`."""

from pathlib import Path
from typing import Final

from steerzo_edge.model.sources.source import Source, SourceKind

SUFFIX: Final = ".gguf"


def _matches(name: str) -> bool:
    if name.endswith(SUFFIX):
        return True
    try:
        directory = Path(name)
        return (
            directory.is_dir() and any(directory.glob(f"*{SUFFIX}")) and not any(directory.glob("*.safetensors*"))
        )
    except (OSError, ValueError):  # a name too long for a path
        return False


def _opened(name: str, revision: str | None) -> Source:
    from steerzo_edge.model.gguf.file import GgufFile  # the package `gguf` is imported for such a base only

    return GgufFile(name, revision)


SOURCE: Final = SourceKind(matches=_matches, opened=_opened)
