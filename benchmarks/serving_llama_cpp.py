"""Answers prompts with llama.cpp, for `serving_real.py`; needs only the standard library and `xllamacpp`.

    PYTHON benchmarks/serving_llama_cpp.py FILE.gguf

The Python may be that of another environment: `xllamacpp`, a package of llama.cpp, need not be installed here.
What it reads and prints: see `serving_worker.py`.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

SLOTS = 8
CONTEXT = 512


def peak_mib() -> float:
    """The most memory that this process ever had resident, in MiB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def serve(load: Callable[[], Callable[[Sequence[str], int], None]]) -> None:
    """Loads, then answers the waves that come in on standard input.

    Args:
        load: Returns a function that answers prompts together, with so many tokens each.
    """
    began = time.perf_counter()
    answer = load()
    tell({"load_s": time.perf_counter() - began})
    for line in sys.stdin:
        wave = json.loads(line)
        began = time.perf_counter()
        answer(wave["prompts"], wave["tokens"])
        tell({"seconds": time.perf_counter() - began, "peak_mib": peak_mib()})


def tell(found: dict[str, float]) -> None:
    """Prints one line of JSON."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def _load(file: str, threads: int) -> Callable[[Sequence[str], int], None]:
    xllamacpp: Any = import_module("xllamacpp")
    settings: Any = xllamacpp.CommonParams()
    settings.model.path = file
    settings.n_ctx, settings.n_parallel = CONTEXT * SLOTS, SLOTS
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    settings.n_gpu_layers = 0
    server = xllamacpp.Server(settings)
    pool = ThreadPoolExecutor(SLOTS)

    def answer(prompts: Sequence[str], tokens: int) -> None:
        def one(prompt: str) -> int:
            question = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
            made: Any = server.handle_completions(question | {"cache_prompt": False})
            return int(made["usage"]["completion_tokens"])

        made = list(pool.map(one, prompts))
        if made != [tokens] * len(prompts):
            raise RuntimeError(f"llama.cpp made {made} tokens, not {tokens} each")

    return answer


if __name__ == "__main__":
    serve(lambda: _load(sys.argv[1], int(sys.argv[2])))
