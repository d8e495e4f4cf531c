"""Loading a base: safetensors only, no remote code, frozen, quiet."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from steerzo_edge.data.control_tokens import read_control_tokens
from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.allocator import bound_kernel_caches, give_back, giving_blocks_back, keep_large_blocks
from steerzo_edge.model.base import Base
from steerzo_edge.model.building import building
from steerzo_edge.model.first_forward import check_forward
from steerzo_edge.model.packed.cache import PackedCache, Place
from steerzo_edge.model.positions import check_positions
from steerzo_edge.model.quantization import STORAGES, Quantization, check_released, released_as
from steerzo_edge.model.sources.bundled import BUNDLED
from steerzo_edge.model.sources.packed import PackedFile
from steerzo_edge.model.sources.registry import source_of
from steerzo_edge.model.sources.source import Loading, Source
from steerzo_edge.model.vocabulary import check_vocabulary

_UNLIMITED = 1 << 30
log = logging.getLogger(__name__)


def load_base(
    name: str = BUNDLED,
    *,
    quantization: Quantization = "nf4",
    compute_dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str | None = None,
    revision: str | None = None,
    cache: PackedCache | None = None,
    allow_control_tokens: bool = False,
) -> Base:
    """Loads and freezes a causal language model.

    Args:
        name: A hub id, the path of a directory, of a GGUF file or of a packed one, `hub-id:FILE.gguf`, or "bundled"
            for the model that ships with the package.
        quantization: "nf4", "fp4", "int8" or "none"; for a base that is quantized already, what it was released in.
        compute_dtype: The type of activations and of expanded weights.
        device: Where to load it; by default CUDA if there is any, else the CPU.
        revision: Commit, tag or branch of a hub model.
        cache: Packed copies: one of this base is opened instead, with the same bits, or else one is kept.
        allow_control_tokens: Whether texts of users may spell control tokens; by default they are read as text
            (see `data/control_tokens.py`).

    Raises:
        BaseModelError: If it cannot be found, holds no safetensors, needs remote code, was released in another
            quantization, is incomplete or contradicts its config, has positions that depend on other rows, or
            computes in a way that this engine does not understand.
    """
    where = torch.device(device or default_device())
    if where.type == "cpu":
        bound_kernel_caches()
    source = source_of(name, revision)
    place = None if cache is None else cache.place(source, quantization, compute_dtype, where)
    asked = quantization, compute_dtype, where
    base = None
    if cache is not None and place is not None:
        base = _kept(cache, place, source, *asked)
    if base is None:
        with giving_blocks_back():
            base = _checked(source, *asked)
            if cache is not None and place is not None:
                cache.keep(base, source, place)
    if allow_control_tokens:
        read_control_tokens(base.tokenizer)
    if where.type == "cpu":
        keep_large_blocks()
    return base


def _kept(
    cache: PackedCache,
    place: Place,
    source: Source,
    quantization: Quantization,
    compute_dtype: torch.dtype,
    where: torch.device,
) -> Base | None:
    """The base from its packed copy; None if there is none, or it cannot be opened."""
    if not place.path.exists():
        return None
    copy = PackedFile(source.name, source.revision, place.path)
    try:
        base = _checked(copy, quantization, compute_dtype, where)
    except BaseModelError as error:
        log.warning("%s; the base is loaded from its source", error)
        cache.discard(place)
        return None
    cache.use(place)
    return base


def _checked(source: Source, quantization: Quantization, compute_dtype: torch.dtype, where: torch.device) -> Base:
    """Loads a base, and compares its first forward unless a packed file notes that this was done."""
    base = _loaded(source, quantization, compute_dtype, where)
    if not (isinstance(source, PackedFile) and source.was_checked(where)):
        check_forward(base)
        base.bank.forget_packed()  # that forward made packed copies, which only prompts need
    return base


def _loaded(source: Source, quantization: Quantization, compute_dtype: torch.dtype, where: torch.device) -> Base:
    try:
        with quiet(), building():
            released = released_as(source.settings(), source.name)
            check_released(released, quantization, source.name)
            tokenizer = _prepared(source.tokenizer())
            give_back()  # what building it has left in the heap: 150 MiB for 262,144 tokens
            convert = not STORAGES[released].quantized
            model = source.model(Loading(STORAGES[quantization], convert, compute_dtype, where))
    except (OSError, ValueError, ImportError) as error:
        raise source.explained(error, "base model") from error
    check_positions(model.config, source.name)
    check_vocabulary(tokenizer, model, source.name)
    model.requires_grad_(False).eval()
    return Base(
        name=source.name,
        model=model,
        tokenizer=tokenizer,
        quantization=quantization,
        compute_dtype=compute_dtype,
        fingerprint=source.fingerprint(model),
        revision=source.revision,
    )


def load_tokenizer(
    name: str = BUNDLED, revision: str | None = None, *, allow_control_tokens: bool = False
) -> PreTrainedTokenizerBase:
    """Loads a base's tokenizer alone, set up as `load_base` does it.

    Args:
        name: As in `load_base`.
        revision: Commit, tag or branch of a hub model.
        allow_control_tokens: As in `load_base`.

    Raises:
        BaseModelError: If there is none, or the hub cannot be reached.
    """
    source = source_of(name, revision)
    try:
        with quiet():
            tokenizer = _prepared(source.tokenizer())
    except (OSError, ValueError, ImportError) as error:
        raise source.explained(error, "the tokenizer of base model") from error
    if allow_control_tokens:
        read_control_tokens(tokenizer)
    return tokenizer


def _prepared(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    tokenizer.model_max_length = _UNLIMITED  # rows are cut by the rules of `data.tokenization`
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def default_device() -> str:
    """ "cuda" where there is a usable GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def quiet() -> Iterator[None]:
    """Inside the block `transformers` shows no progress bars and logs errors only."""
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
