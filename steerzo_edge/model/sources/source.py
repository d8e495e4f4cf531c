"""What a source of base models must be able to do: the protocol behind `model.id`.

A file in this directory holds a `SourceKind` called SOURCE: it recognizes names, and opens a name as a `Source`. A
source may store the weights as it likes while it reads them (`Loading.storage.layer` makes a layer from a weight);
what it gives is a model of `transformers` whose linear layers are stored in the storage that was asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.weights.storage import Storage


@dataclass(frozen=True, slots=True)
class Content:
    """What decides which weights, config and tokenizer a source gives.

    Args:
        version: Names a state that never changes, such as a commit of the hub; "" if only the files tell.
        files: Files on this machine whose bytes decide it, besides the version.
    """

    version: str = ""
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Loading:
    """How a model is to be loaded.

    Args:
        storage: How its linear layers store their weights.
        convert: Whether the weights must be converted to that storage; False if they were released in it.
        compute_dtype: The type of activations and of expanded weights.
        device: Where the weights are put.
    """

    storage: Storage
    convert: bool
    compute_dtype: torch.dtype
    device: torch.device


class Source(Protocol):
    """One base model, not loaded yet."""

    @property
    def name(self) -> str:
        """What the base is called in adapters, journals and answers of the API."""
        ...

    @property
    def revision(self) -> str | None:
        """The commit, tag or branch that was asked for, if one was."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """The content of `config.json`; `quantization_config` in it says how the weights were released.

        Raises:
            BaseModelError: If the base brings code, or weights in a format that may run code.
            OSError: If there is no such base.
        """
        ...

    def config(self) -> PretrainedConfig:
        """The same as an object of `transformers`, read without the weights.

        Raises:
            OSError: If there is no such base.
            ValueError: If `transformers` does not know the architecture.
        """
        ...

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer as it was released.

        Raises:
            BaseModelError: If it brings code.
            OSError: If there is none.
        """
        ...

    def model(self, loading: Loading) -> PreTrainedModel:
        """Loads the model.

        Raises:
            BaseModelError: If it cannot be loaded so.
            OSError: If a file is missing or damaged.
        """
        ...

    def fingerprint(self, model: PreTrainedModel) -> str:
        """Hash of the weights.

        Args:
            model: As `model` gave it, before its first forward.
        """
        ...

    def content(self) -> Content | None:
        """What decides its content, found without reading the weights; None if no packed copy is to be kept of it.

        Raises:
            OSError: If there is no such base.
        """
        ...

    def explained(self, error: BaseException, what: str) -> BaseModelError:
        """An error of the methods above, as one that says what to do.

        Args:
            error: As it was caught; a `BaseModelError` is returned as it is.
            what: What could not be loaded, such as "base model".
        """
        ...


@dataclass(frozen=True, slots=True)
class SourceKind:
    """One kind of source.

    Args:
        matches: Whether a name, as `model.id` gives it, is one of this kind.
        opened: From a name and a revision to the source; reads nothing.
    """

    matches: Callable[[str], bool]
    opened: Callable[[str, str | None], Source]
