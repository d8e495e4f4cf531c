"""A byte-level BPE of the mix: every digit its own piece, special tokens and chat template of the bundled base.

Deterministic: the same documents give the same bytes. `<|endoftext|>` begins every document, so it is both the
first token of a text and what ends one.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from steerzo_edge.errors import InputError
from tools.pretrain_base.documents import END, Document

SPECIAL = (END, "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|pad|>")
END_OF_TURN = SPECIAL.index("<|end|>")
PAD = SPECIAL.index("<|pad|>")
SMALLEST = len(SPECIAL) + 256
LARGEST = 1 << 16  # token files hold 16 bits a token
CHAT_TEMPLATE = """{% for m in messages %}{{ '<|' + m['role'] + '|>
' + m['content'] + '<|end|>
' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>
' }}{% endif %}"""
_PIECES = r"'(?i:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learns the pieces.

    Args:
        texts: What it is trained on.
        vocabulary: How many pieces at most, special tokens and 256 bytes included; little text gives fewer.

    Raises:
        InputError: If the vocabulary is too small for the bytes or too large for 16 bits.
    """
    if not SMALLEST <= vocabulary <= LARGEST:
        raise InputError(f"a vocabulary has {SMALLEST} to {LARGEST} pieces, not {vocabulary}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def sample(documents: Iterable[Document], shares: dict[str, float], characters: int) -> Iterable[str]:
    """Training texts in the proportions of the mix, for the tokenizer.

    Args:
        documents: Of which the held-out ones are passed over.
        shares: Of each source, by name.
        characters: Of all together; a source that has less than its share gives what it has.
    """
    left = {name: share * characters for name, share in shares.items()}
    for document in documents:
        if left[document.source.name] > 0 and not document.held_out:
            left[document.source.name] -= len(document.text)
            yield document.text


def wrapped(tokenizer: Tokenizer, context: int) -> PreTrainedTokenizerFast:
    """The tokenizer as `transformers` saves and loads it.

    Args:
        tokenizer: What `train_tokenizer` gave.
        context: Tokens that the model takes.
    """
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token="<|pad|>",
        extra_special_tokens=list(SPECIAL[1:5]),
        model_max_length=context,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
