"""Writes the records that tests compare this engine with.

    python -m tools.llama_cpp --python PYTHON --base FILE.gguf [--out tests/real/llama_cpp.json]
    python -m tools.llama_cpp --python PYTHON --cuts [--out tests/golden/pre_tokenizers.json]

PYTHON has the package `xllamacpp` (`pip install xllamacpp` in an environment of its own). The first command records
the token ids of a page of mixed text, and the likeliest continuation of a dozen prompts: of the file as it is
(packed) and of its weights in float32 (expanded). The second records the ids of the same page for every pre-
tokenizer that is known here, in a vocabulary whose merges run across words, blanks, digits and marks, so that every
cut shows.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from steerzo_edge.model.cuts import CUTS
from tests.cut_file import WHOLE, cut_file
from tools.llama_cpp.texts import PAGE, PROMPTS

COUNT = 8
MERGES = 1500


def main() -> None:
    """Asks llama.cpp and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="a Python that has the package xllamacpp")
    parser.add_argument("--base", type=Path, help="a GGUF file")
    parser.add_argument("--cuts", action="store_true", help="record pre-tokenizers instead of a base")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.cuts:
        found, out = _cuts(options.python), options.out or Path("tests/golden/pre_tokenizers.json")
    elif options.base is not None:
        found, out = _base(options.python, options.base), options.out or Path("tests/real/llama_cpp.json")
    else:
        parser.error("give --base FILE.gguf or --cuts")
    out.write_text(json.dumps(found, ensure_ascii=False, separators=(",", ":")).replace('],"', '],\n"') + "\n")
    sys.stdout.write(f"{out}: {found['version']}\n")


def _base(python: str, path: Path) -> dict[str, Any]:
    prompts = _asked(python, path, PROMPTS, [], 0)["ids"]
    found = _asked(python, path, PAGE, prompts, COUNT)
    with tempfile.TemporaryDirectory() as scratch:
        expanded = _asked(python, _expanded(path, Path(scratch) / path.name), [], prompts, COUNT)
    page = [{"text": text, "ids": ids} for text, ids in zip(PAGE, found["ids"], strict=True)]
    told = [
        {"text": text, "prompt": prompt, "packed": packed, "expanded": plain}
        for text, prompt, packed, plain in zip(
            PROMPTS, prompts, found["continued"], expanded["continued"], strict=True
        )
    ]
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"version": found["version"], "file": path.name, "sha256": sha256, "page": page, "prompts": told}


def _expanded(path: Path, out: Path) -> Path:
    """The same file with its tensors in float32, for which llama.cpp rounds no activations."""
    file = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(out, file.fields["general.architecture"].contents())
    for field in file.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], inner)
    for tensor in file.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, values.reshape([int(size) for size in reversed(tensor.shape)]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def _cuts(python: str) -> dict[str, Any]:
    merges = _merges()
    ids, version = {}, ""
    with tempfile.TemporaryDirectory() as scratch:
        for name in CUTS:
            found = _asked(python, cut_file(Path(scratch) / f"{name}.gguf", name, merges), PAGE, [], 0)
            ids[name], version = found["ids"], found["version"]
    return {"version": version, "page": PAGE, "merges": merges, "ids": ids}


def _merges() -> list[str]:
    """Merges of the page's most frequent neighbours, whatever they are."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        PAGE, trainers.BpeTrainer(vocab_size=256 + MERGES, initial_alphabet=alphabet, show_progress=False)
    )
    found = [" ".join(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
    return [merge for merge in found if merge.replace(" ", "") not in WHOLE]


def _asked(
    python: str, path: Path, texts: Sequence[str], prompts: Sequence[Sequence[int]], count: int
) -> dict[str, Any]:
    request = {"model": str(path), "texts": texts, "prompts": prompts, "count": count}
    program = Path(__file__).with_name("answers.py")
    done = subprocess.run(
        [python, str(program)], input=json.dumps(request), capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode != 0:
        raise SystemExit(f"llama.cpp failed on {path}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
