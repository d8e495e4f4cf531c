"""Measures what a process keeps besides tensors: two constants of `steerzo_edge.estimate.zeroth_order`.

    python -m benchmarks.kept_memory

PROCESS_BYTES is what is left of the growth over the imports after a short run on the bundled base, with the heap's
gaps returned, without the base, its tokenizer, the adapter and its copies. TOKEN_BYTES is how much a tokenizer with
made-up tokens, and a merge for each, grows with a token.
"""

import ctypes
import gc
import subprocess
import sys
from itertools import chain, islice, pairwise, product
from string import ascii_lowercase

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from benchmarks.workloads import workload
from steerzo_edge.assemble import assemble, plan_of
from steerzo_edge.estimate import anatomy, trained_by, work_of, zeroth_order_needs
from steerzo_edge.estimate.zeroth_order import LONG_LIVED, TOKEN_BYTES
from steerzo_edge.model.load import load_base
from steerzo_edge.model.resident import resident
from steerzo_edge.run_data import split, tokenized
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.loop import finetune

MIB = 1 << 20
SIZES = (32_000, 64_000, 128_000, 256_000)


def main() -> None:
    """Measures each thing in a process of its own, and prints."""
    if sys.argv[1:]:
        sys.stdout.write(f"{left_of_a_run() if sys.argv[1] == 'run' else of_a_tokenizer(int(sys.argv[1]))}\n")
        return
    sys.stdout.write(f"kept after a run: {_in_child('run') / MIB:.1f} MiB\n")
    sizes = [_in_child(str(count)) for count in SIZES]
    for (few, small), (many, large) in pairwise(zip(SIZES, sizes, strict=True)):
        each = (large - small) / (many - few)
        sys.stdout.write(f"a tokenizer of {many:,} tokens: {large / MIB:.1f} MiB, {each:.0f} bytes a token more\n")


def left_of_a_run() -> int:
    """Bytes by which this process has grown after a run on the bundled base, without what the estimate counts."""
    before = _resident()
    base = load_base(device="cpu")
    profile = resolve(
        {"steps": 2, "method": {"epsilon": 0.01}, "rule": {"kind": "sgd", "learning_rate": 1e-4}, "memory": "lean"}
    )
    train, judged = split(workload("intents", 100), profile, 0)
    data = tokenized(base.tokenizer, base.context_length, profile, train, judged, 0)
    parts = assemble(base, profile, data, seed=0)
    for _ in finetune(parts):
        pass
    after = _resident()
    rows = [data.train] if data.validation is None else [data.train, data.validation]
    body, work = anatomy(base.model.config), work_of(profile, base.context_length, *rows)
    plan = plan_of(base, profile, data)
    needs = zeroth_order_needs(profile, body, trained_by(profile, body), work, plan, device="cpu")
    held = sum(needs[name] for name in LONG_LIVED if name != "noise")  # noise is kept within a step only
    return after - before - held - TOKEN_BYTES * body.vocabulary


def of_a_tokenizer(count: int) -> int:
    """Bytes of a byte-pair tokenizer of so many tokens, in the order of their length."""
    before = _resident()
    kept = _tokenizer(count)
    assert len(kept) == count
    return _resident() - before


def _tokenizer(count: int) -> PreTrainedTokenizerFast:
    words = chain.from_iterable(product(ascii_lowercase, repeat=length) for length in range(1, 6))
    pieces = ["".join(letters) for letters in islice(words, count)]
    merges = [(piece[:-1], piece[-1]) for piece in pieces if len(piece) > 1]
    backend = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=merges))
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def _in_child(what: str) -> int:
    command = [sys.executable, "-m", "benchmarks.kept_memory", what]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def _resident() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident()


if __name__ == "__main__":
    main()
