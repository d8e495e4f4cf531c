"""`steerzo generate`: generates one answer and streams it to the terminal."""

import json
import sys
from pathlib import Path

import typer

from steerzo_edge.cli.options import check_adapter_directory
from steerzo_edge.cli.packed_cache import loaded_base, user_cache
from steerzo_edge.data.examples import Message
from steerzo_edge.decoding.generate import Sampling, generate
from steerzo_edge.model.adapter_file import load_adapter
from steerzo_edge.settings.sections import ModelConfig


def generate_command(
    *,
    prompt: str,
    adapter: Path | None,
    base: str,
    revision: str | None,
    quantization: str,
    chat: bool,
    sampling: Sampling,
    allow_control_tokens: bool,
    as_json: bool,
) -> None:
    """Loads the base and the adapter, and prints the answer while it is generated."""
    if adapter is not None:
        check_adapter_directory(adapter)
    model = ModelConfig.parse({"id": base, "revision": revision, "quantization": quantization}, where="options")
    text = sys.stdin.read() if prompt == "-" else prompt
    loaded = loaded_base(model, user_cache(), allow_control_tokens=allow_control_tokens)
    answer = generate(
        loaded,
        [Message("user", text)] if chat else text,
        None if adapter is None else load_adapter(adapter, loaded),
        sampling,
        on_text=(lambda piece: None) if as_json else (lambda piece: typer.echo(piece, nl=False)),
    )
    if as_json:
        usage = {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens}
        typer.echo(json.dumps({"text": answer.text, "finish_reason": answer.finish_reason, "usage": usage}))
    else:
        typer.echo()
