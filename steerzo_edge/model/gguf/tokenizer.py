"""The tokenizer that a GGUF file describes.

Byte-level BPE is built here, with the pre-tokenizer that the file names. SentencePiece is left to `transformers`.
"""

import logging
from collections.abc import Iterator
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer, decoders, models, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.cuts import CUTS, SAME, Cut
from steerzo_edge.model.gguf.header import Header

CONTROL, USER_DEFINED = 3, 4
_PUBLISHED: Final = "Use the model's release in safetensors."
log = logging.getLogger(__name__)


def tokenizer_of(header: Header, *, name: str) -> PreTrainedTokenizerBase:
    """The tokenizer, with the file's chat template.

    Args:
        header: Of the file.
        name: The base's name, for messages.

    Raises:
        BaseModelError: If the file has none, or one of an unknown kind.
    """
    facts = header.facts
    pieces: list[str] = facts.get("tokenizer.ggml.tokens") or []
    kind = facts.get("tokenizer.ggml.model")
    if not pieces or kind is None:
        raise BaseModelError(f"base model {name!r} has no tokenizer in its GGUF file", hint=_PUBLISHED)
    if kind == "gpt2":
        backend = _byte_level(pieces, facts, name)
    elif kind == "llama":
        backend = _sentencepiece(header, pieces)
    else:
        raise BaseModelError(
            f"base model {name!r} has a tokenizer of the kind {kind!r}, which cannot be read from GGUF",
            hint=f"The kinds gpt2 and llama can. {_PUBLISHED}",
        )
    special = {word: pieces[index] for word, index in _special(facts) if index < len(pieces)}
    _add_ends(backend, facts, special, kind)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=facts.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        **special,
    )


def _byte_level(pieces: list[str], facts: dict[str, Any], name: str) -> Tokenizer:
    cut = _cut(facts)
    if cut is None:
        log.warning(
            "%s cuts text as %r does, which is not known here: it is cut as GPT-2 does, and llama.cpp may find "
            "other tokens",
            name,
            facts["tokenizer.ggml.pre"],
        )
        cut = CUTS["gpt-2"]
    merges = [tuple(merge.split(" ")) for merge in facts.get("tokenizer.ggml.merges", ()) if merge]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    try:
        backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=cut.whole_words))
    except Exception as error:  # the package raises nothing more specific
        raise BaseModelError(f"base model {name!r} has a damaged tokenizer: {error}", hint=_PUBLISHED) from error
    backend.pre_tokenizer = cut.pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    kinds = list(zip(pieces, facts.get("tokenizer.ggml.token_type", ()), strict=False))
    backend.add_special_tokens(
        [AddedToken(p, normalized=False, special=True) for p, kind in kinds if kind == CONTROL]
    )
    backend.add_tokens([AddedToken(p, normalized=False) for p, kind in kinds if kind == USER_DEFINED])
    return backend


def _cut(facts: dict[str, Any]) -> Cut | None:
    """How the file says that text is cut; None if that is not known here."""
    said = str(facts.get("tokenizer.ggml.pre", "default"))
    return CUTS.get(SAME.get(said, said))


def _sentencepiece(header: Header, pieces: list[str]) -> Tokenizer:
    try:
        from transformers.integrations.gguf import convert_gguf_tokenizer
    except ImportError:  # older versions have it elsewhere
        from transformers.integrations.ggml import convert_gguf_tokenizer
    facts = header.facts
    described = {
        "tokenizer_type": "llama",
        "tokens": pieces,
        "scores": facts.get("tokenizer.ggml.scores", [0.0] * len(pieces)),
        "token_type": facts.get("tokenizer.ggml.token_type", [1] * len(pieces)),
        "add_prefix_space": facts.get("tokenizer.ggml.add_space_prefix", True),
        **{word.replace("_token", "_token_id"): index for word, index in _special(facts)},
    }
    if merges := facts.get("tokenizer.ggml.merges"):
        described["merges"] = merges
    backend: Tokenizer = convert_gguf_tokenizer(header.architecture, described)[0]
    return backend


def _special(facts: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for word, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        index = facts.get(f"tokenizer.ggml.{key}_token_id")
        if index is not None:
            yield f"{word}_token", int(index)


def _add_ends(backend: Tokenizer, facts: dict[str, Any], special: dict[str, str], kind: str) -> None:
    """Puts a token before or behind every text where the file asks for it, or by llama.cpp's default."""
    cut = _cut(facts)
    usual = {"bos": kind == "llama" or (cut is not None and cut.begins), "eos": False}
    asked = {end: facts.get(f"tokenizer.ggml.add_{end}_token", usual[end]) for end in ("bos", "eos")}
    before, behind = (
        [special[f"{end}_token"]] if asked[end] and f"{end}_token" in special else [] for end in asked
    )
    tokens = sorted({*before, *behind})
    if tokens:
        backend.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *behind],
            special_tokens=[(token, backend.token_to_id(token)) for token in tokens],
        )
