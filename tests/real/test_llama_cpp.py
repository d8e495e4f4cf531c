"""The same file in llama.cpp: token ids of a page, and the next tokens of a dozen prompts.

`python -m tools.llama_cpp --base FILE` recorded them: of the file as it is, and of its weights in float32. With the
file as it is llama.cpp rounds activations to 8 bits, which nothing here does, so its log-probabilities are compared
with a wide margin; with float32 weights it rounds nothing either.
"""

import json
from pathlib import Path

import pytest
import torch

from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base

pytestmark = pytest.mark.real
RECORD = json.loads(Path(__file__).with_name("llama_cpp.json").read_text(encoding="utf-8"))
# In nats: how far below the likeliest token here llama.cpp's may be, and how far log-probabilities may be off.
MARGINS = {"packed": (0.3, 0.6), "expanded": (0.02, 0.02)}


@pytest.fixture(scope="module")
def base(real_base_file: Path) -> Base:
    return load_base(str(real_base_file), quantization="none", compute_dtype=torch.float32, device="cpu")


def test_token_ids(base: Base) -> None:
    for entry in RECORD["page"]:
        assert base.tokenizer.encode(entry["text"]) == entry["ids"], entry["text"]
    for entry in RECORD["prompts"]:
        assert base.tokenizer.encode(entry["text"]) == entry["prompt"], entry["text"]


@pytest.mark.parametrize("kind", MARGINS)
def test_next_tokens(base: Base, kind: str) -> None:
    """At each of 8 places after each of 12 prompts, with llama.cpp's own tokens before."""
    tie, off = MARGINS[kind]
    same = total = 0
    for entry in RECORD["prompts"]:
        found = entry[kind]
        ids = torch.tensor([entry["prompt"] + found["ids"][:-1]])
        with torch.inference_mode():
            chances = base.model(input_ids=ids).logits[0, len(entry["prompt"]) - 1 :].float().log_softmax(-1)
        for place, token, candidates in zip(chances, found["ids"], found["candidates"], strict=True):
            assert float(place.max() - place[token]) <= tie, (entry["text"], token)
            for other, expected in candidates:
                assert float(place[other]) == pytest.approx(expected, abs=off), (entry["text"], other)
            same += int(place.argmax()) == token
            total += 1
    assert (total, same >= 0.95 * total) == (96, True), same
