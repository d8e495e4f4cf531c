"""Pre-tokenizers of byte-level BPE tokenizers, by the names that llama.cpp gives them.

A pre-tokenizer cuts a text into words before merges are applied. A GGUF file has its name only
(`tokenizer.ggml.pre`). The patterns are those of llama.cpp's `llama-vocab.cpp`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tokenizers import Regex, pre_tokenizers
from tokenizers.pre_tokenizers import PreTokenizer


@dataclass(frozen=True, slots=True)
class Cut:
    """A pre-tokenizer: a way to cut text into words.

    Args:
        patterns: Applied in order; each cuts the words that the previous one has made.
        whole_words: A word that is itself a piece becomes that token, without merges.
        begins: Unless the file says otherwise, a text begins with the token for that.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    begins: bool = False

    def pre_tokenizer(self) -> PreTokenizer:
        """The same for the package `tokenizers`."""
        splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in self.patterns]
        last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([*splits, last])


_WORDS: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_ENDINGS: Final = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_LATER: Final = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_THREE_DIGITS: Final = f"{_ENDINGS}|{_LATER % '{1,3}'}"
_UPPER, _LOWER = r"((?=[\p{L}])([^a-z]))", r"((?=[\p{L}])([^A-Z]))"
# Blanks that are not ASCII lie in the second range; llama.cpp does not find them there.
_EAST_ASIAN: Final = r"(?:(?!\s)[一-龥ࠀ-一가-퟿])+"
CUTS: Final = {
    "gpt-2": Cut((_WORDS,)),
    "smollm": Cut((r"\p{N}", _WORDS)),
    "qwen2": Cut((f"{_ENDINGS}|{_LATER % ''}",)),
    "llama-bpe": Cut((_THREE_DIGITS,), whole_words=True, begins=True),
    "smaug-bpe": Cut((_THREE_DIGITS,)),
    "minicpm5": Cut((r"\p{N}{1,3}", f"{_ENDINGS}|{_LATER % '+'}"), whole_words=True),
    "seed-coder": Cut(
        (rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",)
    ),
    "tekken": Cut(
        (
            rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
            r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        whole_words=True,
        begins=True,
    ),
    "deepseek-coder": Cut((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _EAST_ASIAN, r"\p{N}")),
    "viking": Cut((" ?[^(\\s|.,!?…。，、।۔،)]+", r"\p{N}")),  # noqa: RUF001
    "default": Cut((r"[\p{P}\$\+<=>\^~\|]+", _WORDS, r"\p{N}+", "[0-9][0-9][0-9]")),
}
# Other names in llama.cpp for the same cut.
SAME: Final[Mapping[str, str]] = {
    "phi-2": "gpt-2", "olmo": "gpt-2", "jais": "gpt-2", "mpt": "gpt-2", "trillion": "gpt-2", "gpt2": "gpt-2",
    "gigachat": "gpt-2", "a.x-4.0": "gpt-2", "mellum": "gpt-2", "exaone4": "gpt-2", "granite-docling": "gpt-2",
    "starcoder": "smollm", "refact": "smollm", "command-r": "smollm", "codeshell": "smollm", "exaone": "smollm",
    "minerva-7b": "smollm", "mellum2": "smollm",
    "stablelm2": "qwen2", "deepseek-r1-qwen": "qwen2", "megrez": "qwen2", "kormo": "qwen2", "hunyuan": "qwen2",
    "solar-open": "qwen2", "grok-2": "qwen2",
    "llama3": "llama-bpe", "llama-v3": "llama-bpe", "falcon3": "llama-bpe", "falcon-h1": "llama-bpe",
    "lfm2": "llama-bpe", "pixtral": "llama-bpe", "midm-2.0": "llama-bpe",
    "dbrx": "smaug-bpe", "chatglm-bpe": "smaug-bpe", "glm4": "smaug-bpe",
}  # fmt: skip
