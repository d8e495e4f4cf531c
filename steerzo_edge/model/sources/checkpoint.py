"""A checkpoint in the format of `transformers`, in a directory or on the hub. See `Source`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import cached_file

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.fingerprint import fingerprint
from steerzo_edge.model.layers import linear_layers
from steerzo_edge.model.sources.contradictions import refuse_contradictions, refuse_loaded
from steerzo_edge.model.sources.names import by_own_names
from steerzo_edge.model.sources.safety import refuse_adapter, refuse_code, refuse_pickles
from steerzo_edge.model.sources.source import Content, Loading
from steerzo_edge.model.sources.streaming import empty_model, fill
from steerzo_edge.model.sources.tensor_files import tensors_of

_NO_TOKENIZER: Final = "Couldn't instantiate the backend tokenizer"  # of `transformers`


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a checkpoint cannot be read.

    Args:
        reason: The end of a sentence that begins with what could not be loaded.
        hint: What to do.
    """

    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that `transformers` can read.

    Args:
        name: See `Source`.
        place: A directory or a hub id.
        revision: Commit, tag or branch of a hub model.
        token: Gives the token to send to the hub. It is asked before each call, so that no object keeps the token.
        refusal: What an error means where the source knows it; None for all others.
        found_content: See `Source.content`.
    """

    name: str
    place: str
    revision: str | None
    token: Callable[[], str | None] = lambda: None
    refusal: "Callable[[BaseException, Checkpoint], Refusal | None]" = lambda error, checkpoint: None
    found_content: "Callable[[Checkpoint], Content | None]" = lambda checkpoint: None

    def settings(self) -> Mapping[str, Any]:
        """See `Source`."""
        refuse_adapter(Path(self.place), self.name)
        found: dict[str, Any]
        found, _ = PretrainedConfig.get_config_dict(self.place, revision=self.revision, token=self.token())
        refuse_code(found, self.place, "config.json")
        refuse_pickles(Path(self.place))
        return found

    def config(self) -> PretrainedConfig:
        """See `Source`."""
        return AutoConfig.from_pretrained(
            self.place, revision=self.revision, trust_remote_code=False, token=self.token()
        )

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """See `Source`."""
        settings = get_tokenizer_config(self.place, revision=self.revision, token=self.token())
        refuse_code(settings, self.place, "tokenizer_config.json")
        found: PreTrainedTokenizerBase
        try:
            found = AutoTokenizer.from_pretrained(
                self.place, revision=self.revision, trust_remote_code=False, token=self.token()
            )
        except ValueError as error:
            if _NO_TOKENIZER not in str(error):
                raise
            raise BaseModelError(
                f"base model {self.name!r} has no tokenizer: no tokenizer.json, tokenizer.model or vocab.json",
                hint="Add the tokenizer's files of the release that the weights come from.",
            ) from error
        return found

    def model(self, loading: Loading) -> PreTrainedModel:
        """See `Source`; one tensor at a time where the files have the model's own names, else by `transformers`."""
        found = self._streamed(loading) if loading.convert else None
        return self._by_transformers(loading) if found is None else found

    def _streamed(self, loading: Loading) -> PreTrainedModel | None:
        """None where `transformers` would rename, fuse or split tensors, and where there are no safetensors."""
        files = tensors_of(self._file)
        if files is None:
            return None
        model = empty_model(self.config(), loading.compute_dtype)
        read = by_own_names(model, files)
        if read is None:
            return None
        fill(model, read, loading, self.name)
        model.generation_config = self._generation_config()
        return model

    def _file(self, name: str) -> Path | None:
        found = cached_file(
            self.place,
            name,
            revision=self.revision,
            token=self.token(),
            _raise_exceptions_for_missing_entries=False,
        )
        return None if found is None else Path(found)

    def _generation_config(self) -> GenerationConfig:
        options = {"revision": self.revision, "token": self.token()}
        try:
            return GenerationConfig.from_pretrained(self.place, **options)
        except OSError:  # there is none: as `transformers` does it
            return GenerationConfig.from_pretrained(
                self.place, config_file_name="config.json", _from_model_config=True, **options
            )

    def _by_transformers(self, loading: Loading) -> PreTrainedModel:
        """Loads the whole file at once; `transformers` quantizes while it loads."""
        storage = loading.storage
        model: PreTrainedModel
        model, info = AutoModelForCausalLM.from_pretrained(
            self.place,
            revision=self.revision,
            dtype=loading.compute_dtype,
            device_map={"": loading.device},
            trust_remote_code=False,
            use_safetensors=True,
            token=self.token(),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
            **(storage.load_options(loading.compute_dtype) if loading.convert else {}),
        )
        refuse_contradictions(
            model,
            self.name,
            missing=info["missing_keys"],
            mismatched=info["mismatched_keys"],
            unexpected=info["unexpected_keys"] if loading.convert else (),
        )
        refuse_loaded(model, self.name)
        storage.finish(model, linear_layers(model), loading.compute_dtype)
        if loading.device.type == "cpu" and storage.quantized:
            _unmap_file(model)
        return model

    def fingerprint(self, model: PreTrainedModel) -> str:
        """See `Source`."""
        return fingerprint(model)

    def content(self) -> Content | None:
        """See `Source`."""
        return self.found_content(self)

    def explained(self, error: BaseException, what: str) -> BaseModelError:
        """See `Source`."""
        if isinstance(error, BaseModelError):
            return error
        refusal = self.refusal(error, self)
        if refusal is not None:
            return BaseModelError(f"{what} {self.name!r} {refusal.reason}", hint=refusal.hint)
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return BaseModelError(f"{what} {self.name!r} cannot be loaded: {first}")


def _unmap_file(model: PreTrainedModel) -> None:
    """Copies what was not quantized: views of the file keep all of it mapped, two bytes for every weight."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.clone()
