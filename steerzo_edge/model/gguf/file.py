"""A base in a GGUF file: tensors are expanded one at a time and stored as the settings ask.

Config, tokenizer and chat template come from the file too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map
from transformers.utils import cached_file

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.fingerprint import fingerprint
from steerzo_edge.model.gguf.config import FREQUENCIES, config_of
from steerzo_edge.model.gguf.contents import check_contents
from steerzo_edge.model.gguf.header import Header, read_header
from steerzo_edge.model.gguf.tensors import read_tensor
from steerzo_edge.model.gguf.tokenizer import tokenizer_of
from steerzo_edge.model.sources.hub import explained_by_hub, hub_content, hub_token
from steerzo_edge.model.sources.source import Content, Loading
from steerzo_edge.model.sources.streaming import Read, empty_model, fill

# They are only renamed, and may be the largest by far: expanded in parts, straight to the compute type.
_RENAMED: Final = ("token_embd.weight", "output.weight")
_PART: Final = re.compile(r"-(\d{5})-of-\d{5}\.gguf$")


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A base in one GGUF file. See `Source`.

    Args:
        name: See `Source`.
        revision: Commit, tag or branch of a hub model.
    """

    name: str
    revision: str | None

    def settings(self) -> Mapping[str, Any]:
        """See `Source`; the packed tensors of the file are expanded, so it counts as not quantized."""
        found: dict[str, Any] = self.config().to_dict()
        return found

    def config(self) -> PretrainedConfig:
        """See `Source`."""
        return config_of(self._header(), name=self.name)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """See `Source`."""
        return tokenizer_of(self._header(), name=self.name)

    def model(self, loading: Loading) -> PreTrainedModel:
        """See `Source`."""
        header = self._header()
        config = config_of(header, name=self.name)
        model = empty_model(config, loading.compute_dtype)
        read = _readers(model, header, loading.compute_dtype, self.name)
        fill(model, read, loading, self.name, views=False)
        model.generation_config = GenerationConfig.from_model_config(config)
        return model

    def fingerprint(self, model: PreTrainedModel) -> str:
        """See `Source`."""
        return fingerprint(model)

    def content(self) -> Content | None:
        """See `Source`."""
        place, _, file = self.name.rpartition(":")
        if place and not Path(self.name).exists():
            return hub_content(place, file, self.revision)
        return Content(files=(self._path(),))

    def explained(self, error: BaseException, what: str) -> BaseModelError:
        """See `Source`."""
        if isinstance(error, BaseModelError):
            return error
        place = self.name.rpartition(":")[0]
        refusal = explained_by_hub(error, place, self.revision) if place else None
        if refusal is not None:
            return BaseModelError(f"{what} {self.name!r} {refusal.reason}", hint=refusal.hint)
        if isinstance(error, FileNotFoundError):
            return BaseModelError(
                f"{what} {self.name!r} cannot be loaded: there is no such file", hint="Check the path."
            )
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return BaseModelError(f"{what} {self.name!r} cannot be loaded: {first}")

    def _header(self) -> Header:
        header = read_header(self._path(), name=self.name)
        check_contents(header, name=self.name)
        return header

    def _path(self) -> Path:
        path = Path(self.name)
        if path.is_dir():
            return _only(path)
        place, _, file = self.name.rpartition(":")
        if not place or path.exists():
            return path
        found = cached_file(place, file, revision=self.revision, token=hub_token())
        assert found is not None
        return Path(found)


def _only(directory: Path) -> Path:
    files = sorted(directory.glob("*.gguf"))
    # All parts of a split file but the first are passed over: the first one is refused, and says so.
    files = [file for file in files if (part := _PART.search(file.name)) is None or int(part[1]) == 1] or files
    if len(files) > 1:
        raise BaseModelError(
            f"{directory} holds {len(files)} GGUF files: {', '.join(file.name for file in files)}",
            hint=f"Name one of them: {files[0]}",
        )
    return files[0]


@dataclass(frozen=True, slots=True)
class _OwnNames:
    """A model as `transformers` maps names: its parameters by their full names, and no modules.

    Otherwise `transformers` goes through every module too, and makes all of GGUF's names again for each, which took
    5.7 s for a base of 30 layers instead of 0.01. Only models that were converted without their head need that.
    """

    model: PreTrainedModel

    @property
    def config(self) -> PretrainedConfig:
        return self.model.config

    def state_dict(self) -> Mapping[str, Tensor]:
        found: Mapping[str, Tensor] = self.model.state_dict()
        return found

    def named_children(self) -> tuple[()]:
        return ()


def _names(model: PreTrainedModel | _OwnNames, processor: TensorProcessor) -> dict[str, str]:
    """The model's names by those of GGUF."""
    names: dict[str, str] = get_gguf_hf_weights_map(model, processor)
    if not model.config.tie_word_embeddings:
        names.setdefault("output.weight", "lm_head.weight")
    return names


def _readers(model: PreTrainedModel, header: Header, dtype: torch.dtype, name: str) -> dict[str, Read]:
    """How to read each tensor, by the model's own names.

    Raises:
        BaseModelError: If the file has a tensor that the model has no place for.
    """
    settings = model.config.to_dict()
    processor = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)(config=settings)
    names = _names(_OwnNames(model), processor)
    unknown = sorted(header.tensors.keys() - names.keys() - {FREQUENCIES})
    if unknown:
        names = _names(model, processor)
        unknown = sorted(header.tensors.keys() - names.keys() - {FREQUENCIES})
    if unknown:
        raise BaseModelError(
            f"base model {name!r} has a tensor {unknown[0]}, for which {header.architecture!r} has no place here",
            hint="Use the model's release in safetensors.",
        )
    return {
        names[key]: partial(_read, header, key, dtype if key in _RENAMED else torch.float32, processor, name)
        for key in header.tensors
        if key != FREQUENCIES
    }


def _read(header: Header, key: str, dtype: torch.dtype, processor: Any, name: str) -> Tensor:
    found = read_tensor(header, key, dtype, name=name)
    if key in _RENAMED:
        return found
    weights: Any = processor.process(weights=found.numpy(), name=key).weights
    return torch.from_numpy(weights)
