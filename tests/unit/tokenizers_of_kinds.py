"""Small tokenizers of the kinds that bases have: how they cut text, and how they find control tokens, differs."""

from collections.abc import Callable

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.conftest import CHAT_TEMPLATE, byte_tokenizer

LETTERS = [chr(code) for code in range(33, 127)]


def metaspace_bpe() -> PreTrainedTokenizerFast:
    """As Llama's: a blank before the first word only, a token before every text, pieces that merge to </s>."""
    pieces = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "▁", *LETTERS, "</", "s>", "▁a"]
    merges = [("<", "/"), ("s", ">"), ("</", "s>"), ("▁", "a")]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.add_special_tokens([AddedToken(p, normalized=False) for p in pieces[:5]])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    template = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=template
    )


def unigram() -> PreTrainedTokenizerFast:
    """As T5's: control tokens are pieces of the vocabulary, and end every text."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("<|user|>", 0.0), ("<|assistant|>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in LETTERS]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.add_special_tokens([piece for piece, _ in pieces[:5]])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        chat_template=CHAT_TEMPLATE.replace("<|end|>", "</s>"),
    )


def lowercase() -> PreTrainedTokenizerFast:
    """Finds its control tokens in normalized text, so that <|END|> is one of them too."""
    pieces = ["[unk]", "<|end|>", *LETTERS, " "]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="[unk]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(
        [AddedToken(p, normalized=True) for p in ("<|end|>", "<|user|>", "<|assistant|>", "[unk]")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", unk_token="[unk]", chat_template=CHAT_TEMPLATE
    )


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "bytes": byte_tokenizer,
    "metaspace-bpe": metaspace_bpe,
    "unigram": unigram,
    "lowercase": lowercase,
}
