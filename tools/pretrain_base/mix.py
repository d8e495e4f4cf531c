"""The mix: the texts, the share of each, and their licences. `mix.yaml` is the default mix."""

import hashlib
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, model_validator

from steerzo_edge.config import Config
from steerzo_edge.errors import InputError

DEFAULT_MIX = Path(__file__).parent / "mix.yaml"


class Source(Config):
    """One corpus."""

    name: str = Field(pattern=r"^[a-z0-9_]+$", description="What it is called in tables and file names.")
    path: Path = Field(description="The file below the data directory: .txt, .txt.xz or .jsonl.")
    form: Literal["text", "titled", "dialogue", "instructions"] = Field("text", description="What a document is.")
    chat_share: float = Field(0.0, ge=0, le=1, description="Share of its documents put into the chat format.")
    ask: str = Field("", description="The prompt that asks for a titled document; contains {title}.")
    weight: float = Field(gt=0, description="Share of the training tokens, before the sum is brought to 1.")
    licence: str = Field(min_length=2, description="The licence of the text.")
    credit: str = Field(min_length=2, description="Author and origin.")
    attribution: Path | None = Field(None, description="A list of titles and authors that ships with the base.")

    @model_validator(mode="after")
    def _forms_have_what_they_need(self) -> Self:
        if (self.form == "text" and self.chat_share > 0) or (self.form == "instructions" and self.chat_share < 1):
            raise ValueError("chat_share is 0 for plain text and 1 for instructions")
        if self.form == "titled" and self.chat_share > 0 and "{title}" not in self.ask:
            raise ValueError("ask must contain {title}")
        return self


class Mix(Config):
    """All corpora of a base."""

    sources: tuple[Source, ...] = Field(
        min_length=1, description="The corpora; a document that several contain belongs to the first of them."
    )

    @property
    def shares(self) -> dict[str, float]:
        """Share of the training tokens by name; they sum to 1."""
        total = sum(source.weight for source in self.sources)
        return {source.name: source.weight / total for source in self.sources}


def load_mix(path: Path) -> Mix:
    """Reads a mix.

    Args:
        path: A YAML file like `mix.yaml`.

    Raises:
        InputError: Naming every setting that is wrong, or a name that two sources have.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"mix {path} cannot be read: {error}") from error
    mix = Mix.parse(document, where=str(path))
    names = [source.name for source in mix.sources]
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two sources have the same name")
    return mix


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", hint="Name the data directory with --data."
        ) from error
