"""A mix as token files: for each source one file of 16-bit tokens and one of where its documents begin.

Every document begins with `<|endoftext|>`; that is all that parts it from the one before it in a row. Held-out
documents never come here. Made once; what they were made from is in `prepared.json`, and a directory that was
prepared from something else is refused.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from steerzo_edge.errors import InputError
from steerzo_edge.storage.files import write_json, write_whole
from tools.pretrain_base.conversations import turns
from tools.pretrain_base.documents import END, HELD_OUT, Document, documents
from tools.pretrain_base.mix import Mix, file_hash
from tools.pretrain_base.tokenizer import sample, train_tokenizer, wrapped

PREPARED = "prepared.json"
_BLOCK = 256  # documents encoded at once


@dataclass(frozen=True, slots=True)
class Corpus:
    """The training tokens of a source.

    Args:
        name: Of the source.
        tokens: uint16, documents one after the other.
        starts: int64, where each begins, and the end.
    """

    name: str
    tokens: NDArray[np.uint16]
    starts: NDArray[np.int64]


def prepare(mix: Mix, data: Path, directory: Path, *, vocabulary: int, characters: int) -> dict[str, Any]:
    """Trains the tokenizer and writes the token files, unless they are there.

    Args:
        mix: The corpora.
        data: Where their files are.
        directory: Where `tokenizer.json`, the token files and `prepared.json` go.
        vocabulary: Pieces of the tokenizer.
        characters: Of training text that the tokenizer learns from.

    Returns:
        What `prepared.json` holds: the settings, and for each source its file's hash, licence and counts.

    Raises:
        InputError: If a corpus cannot be read, or the directory was prepared with other settings or other files.
    """
    asked = {
        "mix": mix.model_dump(mode="json"),
        "sha256": {source.name: file_hash(data / source.path) for source in mix.sources},
        "vocabulary": vocabulary,
        "tokenizer_characters": characters,
        "held_out_share": HELD_OUT,
    }
    path = directory / PREPARED
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["asked"] != asked:
            raise InputError(f"{directory} was prepared from other texts or settings", hint="Use a new directory.")
        return found
    directory.mkdir(parents=True, exist_ok=True)
    dropped: Counter[str] = Counter()
    tokenizer = train_tokenizer(sample(documents(mix, data), mix.shares, characters), vocabulary)
    tokenizer.save(str(directory / "tokenizer.json"))
    counts = {
        name: _write(directory, name, list(some), tokenizer)
        for name, some in groupby(documents(mix, data, dropped), key=lambda document: document.source.name)
    }
    empty = [source.name for source in mix.sources if counts.get(source.name, {}).get("tokens", 0) == 0]
    if empty:
        raise InputError(f"no training text in {', '.join(empty)}")
    prepared = {"asked": asked, "sources": counts, "dropped": dict(sorted(dropped.items()))}
    write_json(path, prepared)
    return prepared


def load_corpora(directory: Path, mix: Mix) -> list[Corpus]:
    """The token files of a prepared directory, mapped, in the order of the mix."""
    return [
        Corpus(
            source.name,
            np.memmap(directory / f"{source.name}.tokens", dtype=np.uint16, mode="r"),
            np.fromfile(directory / f"{source.name}.starts", dtype=np.int64),
        )
        for source in mix.sources
    ]


def load_prepared_tokenizer(directory: Path, context: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a prepared directory, as `transformers` has it."""
    return wrapped(Tokenizer.from_file(str(directory / "tokenizer.json")), context)


def _write(directory: Path, name: str, some: list[Document], tokenizer: Tokenizer) -> dict[str, int]:
    training = [document for document in some if not document.held_out]
    wrapper = wrapped(tokenizer, 1 << 30)
    starts = [0]

    def write(path: Path) -> None:
        with path.open("wb") as file:
            for ids in _encoded(training, tokenizer, wrapper):
                file.write(np.asarray(ids, dtype=np.uint16).tobytes())
                starts.append(starts[-1] + len(ids))

    write_whole(directory / f"{name}.tokens", write)
    write_whole(directory / f"{name}.starts", lambda path: np.asarray(starts, dtype=np.int64).tofile(path))
    return {
        "documents": len(training),
        "in_chat_format": sum(turns(document) is not None for document in training),
        "bytes": sum(len(document.text.encode()) for document in training),
        "tokens": starts[-1],
        "held_out_documents": len(some) - len(training),
        "held_out_bytes": sum(len(document.text.encode()) for document in some if document.held_out),
    }


def _encoded(some: list[Document], tokenizer: Tokenizer, wrapper: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    for start in range(0, len(some), _BLOCK):
        texts = [rendered(document, wrapper) for document in some[start : start + _BLOCK]]
        yield from (encoding.ids for encoding in tokenizer.encode_batch(texts))


def rendered(document: Document, tokenizer: PreTrainedTokenizerBase) -> str:
    """What is trained on: `<|endoftext|>`, then the text or its turns in the chat format."""
    said = turns(document)
    return END + (document.text if said is None else str(tokenizer.apply_chat_template(said, tokenize=False)))
