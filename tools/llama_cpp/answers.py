"""Asks llama.cpp. Run by the Python that has the package `xllamacpp`; reads a JSON request, writes a JSON answer.

Knows nothing of this project, and needs the standard library and `xllamacpp` only.
"""

import ctypes
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

import xllamacpp

CANDIDATES = 5


def main() -> None:
    """Answers the request on standard input.

    Request: `model` (a GGUF file), `texts` to read, `prompts` (token ids) to continue by `count` tokens. Answer:
    `version` of llama.cpp, `ids` of each text, and `continued`: of each prompt the `ids` of the likeliest
    continuation, and as `candidates` the likeliest tokens at each of its places, with their log-probabilities.
    """
    request = json.load(sys.stdin)
    settings = xllamacpp.CommonParams()
    settings.model.path = request["model"]
    settings.n_ctx = 2048
    settings.n_parallel = 1
    settings.warmup = False
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(settings)
    ids = [_post(server, "/tokenize", content=text, add_special=True, parse_special=True)["tokens"]
           for text in request["texts"]]  # fmt: skip
    continued = [_continued(server, prompt, request["count"]) for prompt in request["prompts"]]
    json.dump({"version": _version(), "ids": ids, "continued": continued}, sys.stdout)


def _continued(server: Any, prompt: list[int], count: int) -> dict[str, Any]:
    found = _post(
        server, "/completion", prompt=prompt, n_predict=count, temperature=0, n_probs=CANDIDATES,
        cache_prompt=False, ignore_eos=True,
    )  # fmt: skip
    places = found["completion_probabilities"]
    return {
        "ids": [place["id"] for place in places],
        "candidates": [[[each["id"], round(each["logprob"], 4)] for each in p["top_logprobs"]] for p in places],
    }


def _post(server: Any, path: str, **body: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def _version() -> str:
    """The package's version ends with the number of llama.cpp's build; the library has ggml's."""
    library = ctypes.CDLL(str(Path(xllamacpp.__file__).with_name("xllamacpp.abi3.so")))
    library.ggml_version.restype = ctypes.c_char_p
    return f"xllamacpp {xllamacpp.__version__}, ggml {library.ggml_version().decode()}"


if __name__ == "__main__":
    main()
