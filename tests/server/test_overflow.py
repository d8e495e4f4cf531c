"""An adapter whose finite weights overflow: an error on every route."""

from typing import Any

import pytest
import torch
from openai import BadRequestError, OpenAI
from safetensors.torch import save

from server.commands.client import Client
from steerzo_edge.model.base import Base
from tests.conftest import Loader
from tests.peft_directory import lora_files, lora_tensors, zip_of


def overflowing(base: Base) -> dict[str, bytes]:
    """The files of an adapter whose weights are finite, and their products are not."""
    tensors = {
        name: torch.full_like(tensor, 1e30) for name, tensor in lora_tensors(base, target="down_proj").items()
    }
    return lora_files(base, target="down_proj") | {"adapter_model.safetensors": save(tensors)}


def test_an_adapter_that_overflows_is_an_error_and_never_an_answer(
    client: Client, openai: OpenAI, tiny: Loader
) -> None:
    data = zip_of(overflowing(tiny("none", torch.float32)))
    id = client.http.post("/adapters", files={"file": ("too large.zip", data)}).json()["id"]
    body = {"prompt": "good", "adapter": id, "max_new_tokens": 4}
    for settings in ({}, {"temperature": 1}, {"logprobs": 1}, {"regex": "[a-z]+"}):
        answer = client.http.post("/generate", json={**body, **settings})
        assert (answer.status_code, answer.json()["code"]) == (422, "not-finite"), settings
    events = client.http.post("/generate", json={**body, "stream": True}).text
    assert "event: error" in events
    assert "not-finite" in events
    assert "event: done" not in events
    for echo in (False, True):
        with pytest.raises(BadRequestError) as error:
            openai.completions.create(model=id, prompt="good", max_tokens=1, logprobs=1, echo=echo)
        found: Any = error.value.body
        assert found["code"] == "not_finite"
    assert client.post("/generate", {**body, "adapter": None})["text"]
    client.http.delete(f"/adapters/{id}")
