"""Documents of a mix: read as a stream, cleaned, each once, and parted into training and held-out text.

The side of a document is a function of its text alone, so it is the same in every run, whatever else is in the mix
and whichever corpus it comes from. A text in the chat format is on the side of the text it was made from.
"""

import hashlib
import json
import lzma
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from steerzo_edge.errors import InputError
from tools.pretrain_base.mix import Mix, Source

END = "<|endoftext|>"
HELD_OUT = 0.02
_SHORTEST = 20  # characters; less is a heading that lost its text
_SPECIAL = re.compile(r"<\|[a-z]+\|>")
_DOLLY = re.compile(r"### Instruction:\n(.*?)\n+### Response:", re.S)


@dataclass(frozen=True, slots=True)
class Document:
    """One cleaned text.

    Args:
        source: Where it comes from.
        text: Its lines; of instructions the prompt, an empty line, and the answer.
        digest: SHA-256 of the text.
        turns: Prompt and answer of instructions, else empty.
    """

    source: Source
    text: str
    digest: bytes
    turns: tuple[str, ...] = ()

    def draw(self, purpose: str) -> float:
        """A number in [0, 1) that depends on the text and the purpose alone."""
        drawn = hashlib.sha256(purpose.encode() + self.digest).digest()
        return int.from_bytes(drawn[:8], "big") / 2**64

    @property
    def held_out(self) -> bool:
        """Whether it is kept for evaluation and never trained on."""
        return self.draw("held-out") < HELD_OUT


def documents(mix: Mix, data: Path, dropped: Counter[str] | None = None) -> Iterator[Document]:
    """All documents of a mix, source by source, each text once.

    Args:
        mix: The corpora.
        data: The directory their paths are below.
        dropped: Counts "SOURCE: reason" of what was left out.

    Raises:
        InputError: If a file is missing or no text.
    """
    dropped = Counter() if dropped is None else dropped
    seen: set[bytes] = set()
    for source in mix.sources:
        for raw, turns in _raw(source, data / source.path):
            text = clean(raw)
            digest = hashlib.sha256(text.encode()).digest()
            reason = "short" if len(text) < _SHORTEST else "special token" if _SPECIAL.search(text) else ""
            reason = reason or ("repeated" if digest in seen else "")
            if reason:
                dropped[f"{source.name}: {reason}"] += 1
                continue
            seen.add(digest)
            yield Document(source, text, digest, turns)


def clean(text: str) -> str:
    """Drops lines with fewer than two letters or digits, and all but one of several empty lines."""
    kept: list[str] = []
    for line in map(str.rstrip, text.splitlines()):
        if not line:
            if kept and kept[-1]:
                kept.append("")
        elif sum(map(str.isalnum, line)) >= 2:
            kept.append(line)
    return "\n".join(kept).strip()


def _raw(source: Source, path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    try:
        with _opened(path) as file:
            if path.suffix == ".jsonl":
                yield from (_instruction(json.loads(line)) for line in file)
            else:
                yield from ((text, ()) for text in _parted(file))
    except (OSError, lzma.LZMAError, ValueError) as error:
        raise InputError(
            f"corpus {source.name!r} cannot be read from {path}: {error}",
            hint="Name the data directory with --data.",
        ) from error


def _opened(path: Path) -> IO[str]:
    return lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8")


def _parted(file: IO[str]) -> Iterator[str]:
    lines: list[str] = []
    for line in file:
        if line.strip() == END:
            yield "".join(lines)
            lines.clear()
        else:
            lines.append(line)
    if "".join(lines).strip():
        yield "".join(lines)


def _instruction(row: dict[str, Any]) -> tuple[str, tuple[str, str]]:
    if "prompt" in row:
        found = _DOLLY.search(row["prompt"])
        prompt, answer = (found[1] if found else row["prompt"]), row["response"]
    else:
        prompt, answer = "\n".join(filter(None, (row["instruction"], row["input"]))), row["output"]
    prompt, answer = clean(prompt), clean(answer)
    return f"{prompt}\n\n{answer}" if prompt and answer else "", (prompt, answer)
