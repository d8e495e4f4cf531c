"""The same file in llama.cpp: token ids of a page, and the next tokens of a dozen prompts.

`python -m tools.llama_cpp --base FILE` recorded them. llama.cpp multiplies Q4_1 weights with activations rounded to
8 bits; here weights are expanded and nothing is rounded. So log-probabilities are compared with a margin.
"""

import json
from pathlib import Path

import pytest
import torch

from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base

pytestmark = pytest.mark.real
RECORD = json.loads(Path(__file__).with_name("llama_cpp.json").read_text(encoding="utf-8"))
# nats: how far below the likeliest token here llama.cpp's may be, and how far its log-probabilities may be off.
TIE, OFF = 0.25, 0.5


@pytest.fixture(scope="module")
def base(real_base_file: Path) -> Base:
    return load_base(str(real_base_file), quantization="none", compute_dtype=torch.float32, device="cpu")


def test_token_ids(base: Base) -> None:
    for entry in RECORD["page"]:
        assert base.tokenizer.encode(entry["text"]) == entry["ids"], entry["text"]
    for entry in RECORD["prompts"]:
        assert base.tokenizer.encode(entry["text"]) == entry["prompt"], entry["text"]


def test_next_tokens(base: Base) -> None:
    """At each of 8 places after each of 12 prompts, with llama.cpp's own tokens before."""
    same = total = 0
    for entry in RECORD["prompts"]:
        ids = torch.tensor([entry["prompt"] + entry["ids"][:-1]])
        with torch.inference_mode():
            chances = base.model(input_ids=ids).logits[0, len(entry["prompt"]) - 1 :].float().log_softmax(-1)
        for place, token, candidates in zip(chances, entry["ids"], entry["candidates"], strict=True):
            assert float(place.max() - place[token]) <= TIE, (entry["text"], token)
            for other, expected in candidates:
                assert float(place[other]) == pytest.approx(expected, abs=OFF), (entry["text"], other)
            same += int(place.argmax()) == token
            total += 1
    assert same >= 0.95 * total, (same, total)
