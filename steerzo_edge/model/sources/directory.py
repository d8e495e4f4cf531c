"""Directories on this machine that hold a checkpoint, as `save_pretrained` writes it."""

from pathlib import Path
from typing import Final

from steerzo_edge.model.sources.checkpoint import Checkpoint, Refusal
from steerzo_edge.model.sources.source import Content, Source, SourceKind

# Of weights, configs, tokenizers and chat templates.
_READ: Final = frozenset({".safetensors", ".json", ".model", ".txt", ".jinja"})


def _is_directory(name: str) -> bool:
    """Whether a name is a path, or something that exists; `transformers` too looks for a directory first."""
    if Path(name).is_absolute() or name.startswith("."):
        return True
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # a name too long for a path
        return False


def _refusal(error: BaseException, checkpoint: Checkpoint) -> Refusal | None:
    if Path(checkpoint.place).is_dir():
        return None
    if Path(checkpoint.place).is_file():
        return Refusal("cannot be loaded: it is a file, and no GGUF file", "Name the directory that it is in.")
    return Refusal("cannot be loaded: there is no such directory", "Check the path.")


def _content(checkpoint: Checkpoint) -> Content:
    place = Path(checkpoint.place)
    paths = (*place.glob("*"), *place.glob("*/*.jinja"))
    return Content(files=tuple(sorted(path for path in paths if path.suffix in _READ and path.is_file())))


def _opened(name: str, revision: str | None) -> Source:
    return Checkpoint(name, name, revision, refusal=_refusal, found_content=_content)


SOURCE: Final = SourceKind(matches=_is_directory, opened=_opened)
