"""Loading a base: safetensors only, no remote code, frozen, quiet."""

import gc
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from steerzo_edge.model.allocator import keep_large_blocks
from steerzo_edge.model.base import Base
from steerzo_edge.model.building import building
from steerzo_edge.model.first_forward import check_forward
from steerzo_edge.model.hub import explained, hub_token
from steerzo_edge.model.origin import check_model, check_tokenizer
from steerzo_edge.model.positions import check_positions
from steerzo_edge.model.quantization import Quantization, compute_in, quantization_config
from steerzo_edge.model.released import check_released, released_as

BUNDLED = "bundled"
_UNLIMITED = 1 << 30
_ASSETS = Path(__file__).parent.parent / "assets"


def load_base(
    name: str = BUNDLED,
    *,
    quantization: Quantization = "nf4",
    compute_dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str | None = None,
    revision: str | None = None,
) -> Base:
    """Loads and freezes a causal language model.

    Args:
        name: A hub id, the path of a directory, or "bundled" for the model that ships with the package.
        quantization: "nf4", "fp4", "int8" or "none"; of a base that is quantized already, what it was released in.
        compute_dtype: The type of activations and of expanded weights.
        device: Where to load it; by default CUDA if there is any, else the CPU.
        revision: Commit, tag or branch of a hub model.

    Raises:
        BaseModelError: If it cannot be found, holds no safetensors, needs remote code, was released in another
            quantization, has positions that depend on other rows, or computes in a way that this engine does not
            understand.
    """
    where = torch.device(device or default_device())
    if where.type == "cpu":
        keep_large_blocks()
    source = source_of(name)
    try:
        with quiet(), building():
            released = released_as(check_model(source, revision), name)
            check_released(released, quantization, name)
            tokenizer = _tokenizer(source, revision)
            model = AutoModelForCausalLM.from_pretrained(
                source,
                revision=revision,
                dtype=compute_dtype,
                device_map={"": where},
                trust_remote_code=False,
                use_safetensors=True,
                token=hub_token(source),
                **_quantizing(released, quantization, compute_dtype),
            )
    except (OSError, ValueError, ImportError) as error:
        raise explained(error, name, revision) from error
    check_positions(model.config, name)
    compute_in(model, compute_dtype)
    model.requires_grad_(False).eval()
    if where.type == "cpu" and quantization != "none":
        _let_go_of_file(model)
    base = Base(
        name=name,
        model=model,
        tokenizer=tokenizer,
        quantization=quantization,
        compute_dtype=compute_dtype,
        fingerprint=fingerprint(model),
        revision=revision,
    )
    check_forward(base)
    base.bank.forget_packed()  # made by that first forward, and not needed unless somebody asks a prompt
    return base


def _quantizing(released: Quantization, asked: Quantization, compute_dtype: torch.dtype) -> dict[str, Any]:
    """Nothing where nothing is to be quantized: even a None would hide what a base's own config says."""
    config = quantization_config(asked, compute_dtype) if released == "none" else None
    return {} if config is None else {"quantization_config": config}


def load_tokenizer(name: str = BUNDLED, revision: str | None = None) -> PreTrainedTokenizerBase:
    """A base's tokenizer alone, as `load_base` sets it up.

    Args:
        name: As in `load_base`.
        revision: Commit, tag or branch of a hub model.

    Raises:
        BaseModelError: If there is none, or the hub cannot be reached.
    """
    try:
        with quiet():
            return _tokenizer(source_of(name), revision)
    except (OSError, ValueError, ImportError) as error:
        raise explained(error, name, revision, "the tokenizer of base model") from error


def _tokenizer(source: str, revision: str | None) -> PreTrainedTokenizerBase:
    check_tokenizer(source, revision)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        source, revision=revision, trust_remote_code=False, token=hub_token(source)
    )
    tokenizer.model_max_length = _UNLIMITED  # rows are cut by the rules of `data.tokenization`
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def source_of(name: str) -> str:
    """Where a base's files are: a hub id or a path, also for "bundled"."""
    return str(_ASSETS / "base") if name == BUNDLED else name


def default_device() -> str:
    """ "cuda" where there is a usable GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def fingerprint(model: PreTrainedModel) -> str:
    """Hash of a model's tensors: names, shapes, types, and up to 64 KiB of each.

    Note:
        Taken before the first forward: bitsandbytes repacks 4-bit weights in place on some CPUs.
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        sample = tensor.detach().flatten()
        sample = sample[:: max(1, sample.numel() * sample.element_size() // 65536)].contiguous().cpu()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _let_go_of_file(model: PreTrainedModel) -> None:
    """Copies what was not quantized: views of the file keep all of it mapped, two bytes for every weight."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.clone()
    gc.collect()  # loading's own objects refer to each other


@contextmanager
def quiet() -> Iterator[None]:
    """Loading bars belong to the caller; warnings of `transformers` go to the log."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
