"""A checkpoint in the format of `transformers`, in a directory or on the hub. See `Source`."""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.fingerprint import fingerprint
from steerzo_edge.model.layers import linear_layers
from steerzo_edge.model.sources.safety import refuse_code, refuse_pickles
from steerzo_edge.model.sources.source import Loading


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
    """

    name: str
    place: str
    revision: str | None
    token: Callable[[], str | None] = lambda: None
    refusal: "Callable[[BaseException, Checkpoint], Refusal | None]" = lambda error, checkpoint: None

    def settings(self) -> Mapping[str, Any]:
        """See `Source`."""
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
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            self.place, revision=self.revision, trust_remote_code=False, token=self.token()
        )
        return found

    def model(self, loading: Loading) -> PreTrainedModel:
        """See `Source`; `transformers` quantizes while it loads."""
        storage = loading.storage
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            self.place,
            revision=self.revision,
            dtype=loading.compute_dtype,
            device_map={"": loading.device},
            trust_remote_code=False,
            use_safetensors=True,
            token=self.token(),
            **(storage.load_options(loading.compute_dtype) if loading.convert else {}),
        )
        storage.finish(model, linear_layers(model), loading.compute_dtype)
        if loading.device.type == "cpu" and storage.quantized:
            _unmap_file(model)
        return model

    def fingerprint(self, model: PreTrainedModel) -> str:
        """See `Source`."""
        return fingerprint(model)

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
    gc.collect()  # loading's own objects refer to each other
