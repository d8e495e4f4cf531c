"""The forms in which an adapter can be exported, by name."""

from pathlib import Path
from typing import Final, Literal, get_args

from steerzo_edge.export.gguf_adapter import export_gguf_adapter
from steerzo_edge.export.gguf_model import export_gguf
from steerzo_edge.export.ollama import export_ollama
from steerzo_edge.export.peft_directory import export_peft
from steerzo_edge.model.merged import Agreement, export_merged

Form = Literal["peft", "merged", "gguf", "gguf-lora", "ollama"]
FORMS: Final[tuple[Form, ...]] = get_args(Form)
# For these forms the base is loaded again, in 16 bits.
WHOLE_MODELS: Final = frozenset({"merged", "gguf", "ollama"})
# These are directories; the others are a file.
DIRECTORIES: Final = frozenset({"peft", "merged", "ollama"})


def export(form: Form, adapter: Path, out: Path, name: str, *, revision: str | None = None) -> Agreement | None:
    """Writes an adapter in one of the forms.

    Args:
        form: "peft", "merged" and "ollama" make a directory, "gguf" and "gguf-lora" a file.
        adapter: A PEFT directory.
        out: Path of the export; must not exist, or be an empty directory.
        name: The base, as `load_base` takes it.
        revision: Commit, tag or branch of a hub model.

    Returns:
        How well a merged model agrees with base and adapter; None if nothing was merged.

    Raises:
        ConflictError: If `out` exists, a package is missing, or a merged model does not agree.
        BaseModelError: If the base cannot be exported in this form.
        AdapterFileError: If the adapter does not fit it.
        OSError: If the disk is full or fails.
        StorageError: As OSError.
    """
    if form == "merged":
        return export_merged(adapter, out, name, revision=revision)
    if form == "gguf":
        return export_gguf(adapter, out, name, revision=revision)
    if form == "ollama":
        return export_ollama(adapter, out, name, revision=revision).agreement
    (export_peft if form == "peft" else export_gguf_adapter)(adapter, out, name, revision=revision)
    return None
