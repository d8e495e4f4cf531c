"""Exports a directory for `ollama create`: a GGUF file, and a Modelfile that names it.

    model.gguf or adapter.gguf    base and adapter merged in 16 bits, or the adapter alone
    Modelfile                     FROM, ADAPTER, TEMPLATE, SYSTEM, PARAMETER num_ctx and stop

Not known here: what Ollama itself makes of it. Formats and template language are those of its documents.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from transformers import PreTrainedTokenizerBase

from steerzo_edge.errors import ConflictError, InputError
from steerzo_edge.estimate.anatomy import load_config
from steerzo_edge.export.gguf_adapter import export_gguf_adapter
from steerzo_edge.export.gguf_file import gguf_package
from steerzo_edge.export.gguf_model import export_gguf
from steerzo_edge.export.go_template import Messages, Translation, translated
from steerzo_edge.model.merged import Agreement, released_tokenizer
from steerzo_edge.model.positions import context_of
from steerzo_edge.storage.files import write_bytes

MODELFILE: Final = "Modelfile"
# Ollama keeps keys and values for the whole context in memory.
MOST_CONTEXT: Final = 4096
NOT_TRANSLATED: Final = (
    "the base's chat template is not one that this export translates; without TEMPLATE, Ollama compares the "
    "template in the GGUF file with those that it knows"
)


@dataclass(frozen=True, slots=True)
class OllamaOptions:
    """What a Modelfile says besides the model.

    Args:
        system: The system message of every conversation; None writes none.
        context_tokens: `num_ctx`; by default the base's context, at most 4096.
        parent: Ollama's name of the base. If it is given, the adapter alone is written, and applied to that model.
    """

    system: str | None = None
    context_tokens: int | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class OllamaExport:
    """The outcome of an export.

    Args:
        agreement: How well the merged model agrees with base and adapter; None if nothing was merged.
        remark: Why the Modelfile has no TEMPLATE; None if it has one.
    """

    agreement: Agreement | None
    remark: str | None


def export_ollama(
    adapter: Path, out: Path, name: str, *, revision: str | None = None, options: OllamaOptions | None = None
) -> OllamaExport:
    """Writes the directory.

    Args:
        adapter: A PEFT directory.
        out: The directory; must not exist, or be empty.
        name: The base, as `load_base` takes it.
        revision: Commit, tag or branch of a hub model.
        options: What the Modelfile says besides.

    Raises:
        ConflictError: If `out` exists, the package gguf is missing, or the merged model does not agree.
        InputError: If an option cannot be written into a Modelfile.
        BaseModelError: If the base cannot be written to GGUF.
        AdapterFileError: If the adapter does not fit it.
        OSError: If the disk is full or fails; nothing is kept.
        StorageError: As OSError.
    """
    options = options or OllamaOptions()
    gguf_package()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConflictError(f"{str(out)!r} exists already", hint="Name a new directory.")
    tokenizer = released_tokenizer(name, revision)
    translation = chat_translation(tokenizer)
    context = context_of(load_config(name, revision))
    text = modelfile(tokenizer, translation, context, options)
    existed = out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        found = None
        if options.parent is None:
            found = export_gguf(adapter, out / "model.gguf", name, revision=revision)
        else:
            export_gguf_adapter(adapter, out / "adapter.gguf", name, revision=revision)
        write_bytes(out / MODELFILE, text.encode())
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        if existed:
            out.mkdir(exist_ok=True)
        raise
    has_template = translation is not None or tokenizer.chat_template is None
    return OllamaExport(found, None if has_template else NOT_TRANSLATED)


def chat_translation(tokenizer: PreTrainedTokenizerBase) -> Translation | None:
    """The base's chat template in Go's language, without the token that Ollama itself puts first."""
    template = tokenizer.chat_template
    if not isinstance(template, str) or "strftime_now" in template:  # the date would stay that of the export
        return None
    first = tokenizer.bos_token if _adds_first(tokenizer) else None

    def render(messages: Messages, begins: bool) -> str:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=begins)
        assert isinstance(text, str)
        return text.removeprefix(first) if first else text

    found = translated(render)
    return None if found is None or _lost(found.text) else found


def modelfile(
    tokenizer: PreTrainedTokenizerBase, translation: Translation | None, context: int, options: OllamaOptions
) -> str:
    """The text of a Modelfile.

    Args:
        tokenizer: Of the base.
        translation: Of its chat template; None if there is none.
        context: Longest context of the base, in tokens.
        options: What it says besides.

    Raises:
        InputError: If an option cannot be written into it.
    """
    wanted = options.context_tokens
    if wanted is not None and wanted > context:
        raise InputError(f"num_ctx is {wanted}, but the base's context has {context} tokens")
    lines = ["FROM ./model.gguf"]
    if options.parent is not None:
        if not options.parent or " " in options.parent or not options.parent.isprintable():
            raise InputError(f"{options.parent!r} is not a name of a model in Ollama")
        lines = [f"FROM {options.parent}", "ADAPTER ./adapter.gguf"]
    if tokenizer.chat_template is None:
        lines.append("TEMPLATE {{ .Prompt }}")  # continues texts, as the base does
    elif translation is not None:
        lines.append(f'TEMPLATE """{translation.text}"""')
    if options.system is not None:
        if '"""' in options.system:
            raise InputError('a system message for Ollama cannot contain """')
        if lost := _lost(options.system):
            shown = ", ".join(f"U+{ord(letter):04X}" for letter in lost)
            raise InputError(
                f"a system message for Ollama cannot contain {shown}: Ollama leaves such characters out"
            )
        lines.append(f'SYSTEM """{options.system}"""')
    lines.append(f"PARAMETER num_ctx {wanted or min(context, MOST_CONTEXT)}")
    lines += [f'PARAMETER stop "{text}"' for text in _stops(tokenizer, translation)]
    return "\n".join(lines) + "\n"


def _lost(text: str) -> list[str]:
    """The characters that Ollama leaves out of a Modelfile: all but printable ones, blanks and newlines."""
    return [letter for letter in dict.fromkeys(text) if not letter.isprintable() and letter not in "\t\r\n"]


def _stops(tokenizer: PreTrainedTokenizerBase, translation: Translation | None) -> Sequence[str]:
    found = [tokenizer.eos_token or "", "" if translation is None else translation.stop]
    return [text for text in dict.fromkeys(found) if text and text.isprintable() and '"' not in text]


def _adds_first(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the GGUF file tells llama.cpp to put the first token before every text; see `vocabulary.py`."""
    coded = tokenizer.encode("x")
    return len(coded) > 1 and coded[0] == tokenizer.bos_token_id
