"""Packed bases: files of `steerzo base pack`, and those that a cache keeps. See `model/packed`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from weakref import finalize

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.packed.contents import versions
from steerzo_edge.model.packed.file import SUFFIX, DamagedError, Opened, open_packed
from steerzo_edge.model.packed.restored import restored_config, restored_model, restored_tokenizer
from steerzo_edge.model.quantization import STORAGES
from steerzo_edge.model.sources.safety import refuse_code
from steerzo_edge.model.sources.source import Content, Loading, Source, SourceKind

_AGAIN: Final = "Copy the file again, or pack the base again (`steerzo base pack`)."
# What unexpected notes or tensors of a file that is complete, but not of this engine's making, can raise.
_MALFORMED: Final = (KeyError, TypeError, ValueError, AttributeError, AssertionError, IndexError, RuntimeError)


class PackedFile:
    """A base in a packed file. See `Source`.

    Args:
        name: What the base is called; the path, or in a cache the name of the base that was packed.
        revision: As it was asked for.
        path: The file.
    """

    def __init__(self, name: str, revision: str | None, path: Path) -> None:
        self.name = name
        self.revision = revision
        self._path = path

    def settings(self) -> Mapping[str, Any]:
        """See `Source`; it counts as released in the storage that it was packed in."""
        notes = self._opened.notes
        with self._well_formed():
            storage, dtype = STORAGES[notes["quantization"]], getattr(torch, notes["compute_dtype"])
            found = {key: value for key, value in notes["config"].items() if key != "quantization_config"}
            how = storage.load_options(dtype).get("quantization_config")
        refuse_code(found, self.name, "its config")
        return found if how is None else {**found, "quantization_config": how.to_dict()}

    def config(self) -> PretrainedConfig:
        """See `Source`."""
        with self._well_formed():
            return restored_config(self._opened.notes)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """See `Source`."""
        with self._well_formed():
            return restored_tokenizer(self._opened.tensors)

    def model(self, loading: Loading) -> PreTrainedModel:
        """See `Source`; as it was packed, and in no other way."""
        opened = self._opened
        notes = opened.notes
        self._compare("quantization", notes["quantization"], loading.storage.kind)
        self._compare("compute_dtype", notes["compute_dtype"], str(loading.compute_dtype).removeprefix("torch."))
        with self._well_formed():
            model = restored_model(notes, opened.tensors, loading.compute_dtype, loading.device)
        finalize(model, opened.claim.release)
        return model

    def fingerprint(self, model: PreTrainedModel) -> str:
        """See `Source`; as it was noted: the hash of the file has shown that the tensors are the same."""
        return str(self._opened.notes["fingerprint"])

    def content(self) -> Content | None:
        """See `Source`; None, because it is packed already."""
        return None

    def was_checked(self, device: torch.device) -> bool:
        """Whether its first forward was compared by this version of everything that computes it.

        Args:
            device: Where it is now.
        """
        return bool(self._opened.notes.get("versions") == versions(device))

    def explained(self, error: BaseException, what: str) -> BaseModelError:
        """See `Source`."""
        if isinstance(error, BaseModelError):
            return error
        if isinstance(error, FileNotFoundError):
            return BaseModelError(
                f"{what} {self.name!r} cannot be loaded: there is no such file", hint="Check the path."
            )
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return BaseModelError(f"{what} {self.name!r} cannot be loaded: {first}")

    @cached_property
    def _opened(self) -> Opened:
        try:
            return open_packed(self._path)
        except DamagedError as error:
            raise self._damaged(error) from error

    @contextmanager
    def _well_formed(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except DamagedError as error:
            raise self._damaged(error) from error
        except _MALFORMED as error:
            raise self._damaged(f"is not as this version writes it: {type(error).__name__}: {error}") from error

    def _damaged(self, what: object) -> BaseModelError:
        return BaseModelError(f"packed base {self.name!r} {what}", hint=_AGAIN)

    def _compare(self, setting: str, noted: str, asked: str) -> None:
        if noted != asked:
            raise BaseModelError(
                f"base model {self.name!r} was packed with {setting} {noted}, and the settings ask for {asked}",
                hint=f"Set {setting} to {noted}, or pack the base again with {setting} {asked}.",
            )


def _opened(name: str, revision: str | None) -> Source:
    return PackedFile(name, revision, Path(name))


SOURCE: Final = SourceKind(matches=lambda name: name.endswith(SUFFIX), opened=_opened)
