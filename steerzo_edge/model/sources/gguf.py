"""GGUF files, the format of llama.cpp: a file, a directory with one, or `hub-id:FILE.gguf`."""

from pathlib import Path
from typing import Final

from steerzo_edge.model.sources.source import Source, SourceKind

SUFFIX: Final = ".gguf"


def _matches(name: str) -> bool:
    if name.endswith(SUFFIX):
        return True
    try:
        path = Path(name)
        if path.is_file():  # some programs store models under names without an ending
            with path.open("rb") as file:
                return file.read(4) == b"GGUF"
        return path.is_dir() and any(path.glob(f"*{SUFFIX}")) and not any(path.glob("*.safetensors*"))
    except (OSError, ValueError):  # a name too long for a path
        return False


def _opened(name: str, revision: str | None) -> Source:
    from steerzo_edge.model.gguf.file import GgufFile  # the package `gguf` is imported for such a base only

    return GgufFile(name, revision)


SOURCE: Final = SourceKind(matches=_matches, opened=_opened)
