"""A tiny base that calls a tool where there is one, and answers in words to its result, or where there is none.

Its layers add nothing, so that each token alone decides which one follows. One of its control tokens is the marker
of calls in the form of Hermes, and a whole call is one token.
"""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from openai import OpenAI
from tokenizers import AddedToken
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tests.call_templates import HERMES_TEMPLATE

CITY: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "city",
        "description": "Finds a city.",
        "parameters": {
            "type": "object",
            "properties": {"big": {"type": "boolean"}},
            "required": ["big"],
            "additionalProperties": False,
        },
    },
}
NOW: dict[str, Any] = {"type": "function", "function": {"name": "now"}}
MARKER, END_MARKER = "<tool_call>", "</tool_call>"
CALL = '\n{"name": "city", "arguments": {"big": true}}\n'
# What follows the template's opening of an answer: without tools, with tools, and after a tool's result.
NEXT = (" Yes<|end|>", f"<|assistant|>So{MARKER}{CALL}{END_MARKER}<|end|>", "\nFin<|end|>")
ASKED: list[Any] = [{"role": "user", "content": "Which city?"}]


def tool_base(tiny: Path, path: Path) -> Path:
    """The tiny base, whose answers are those of `NEXT`."""
    shutil.copytree(tiny, path)
    for file in path.glob("*.json"):
        file.write_text(file.read_text().replace("<|system|>", MARKER))
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (CALL, END_MARKER)])
    tokenizer.chat_template = HERMES_TEMPLATE.replace(
        "<|assistant|>{% endif %}",
        "<|assistant|>{% if messages[-1].role == 'tool' %}{{ '\n' }}{% elif not tools %} {% endif %}{% endif %}",
    )
    refusing = "{% if messages[-1].content == 'REFUSED' %}{{ raise_exception('no') }}{% endif %}"
    tokenizer.chat_template = refusing + tokenizer.chat_template
    tokenizer.save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    config |= {"max_position_embeddings": 2048, "vocab_size": len(tokenizer)}
    (path / "config.json").write_text(json.dumps(config))
    model = LlamaForCausalLM(LlamaConfig.from_pretrained(path))
    names = torch.randn(len(tokenizer), 64, generator=torch.Generator().manual_seed(0))
    names /= names.norm(dim=1, keepdim=True)
    for name, tensor in model.state_dict().items():
        tensor.fill_(float("norm" in name))
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(names)
        for text in NEXT:
            tokens = tokenizer(text, add_special_tokens=False).input_ids
            for token, following in pairwise(tokens):
                model.lm_head.weight[following] += 4 * names[token]
    model.save_pretrained(path)
    return path


def is_city(arguments: str) -> bool:
    """Whether arguments have the schema of `CITY`."""
    found = json.loads(arguments)
    return set(found) == {"big"} and isinstance(found["big"], bool)


UNIQUE = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}


def asked(client: OpenAI, **parameters: Any) -> Any:
    """What a model answers that may call tools."""
    body = {"messages": ASKED, "tools": [CITY, NOW], "max_tokens": 160, "temperature": 1, "seed": 3, **parameters}
    return client.chat.completions.create(model="base", **body)
