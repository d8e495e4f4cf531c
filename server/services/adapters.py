"""Checks uploaded adapters against the base and stores them; removes adapters, and shows them as the API does.

The same weights with the same settings are the same adapter: sending them again under the same name, or without a
name, returns the adapter that is stored.
"""

import shutil
from pathlib import Path, PurePath
from typing import Any

from server.ids import new_id
from server.services.adapter_archive import MOST_CONFIG_BYTES, is_zip, unpack
from server.services.context import Context
from server.services.request_bodies import NameBody
from server.services.uploads import UploadForm
from server.store.adapters import AdapterRow
from server.system_errors import disk_errors_as_storage_errors
from steerzo_edge.errors import AdapterFileError, InputError
from steerzo_edge.model.adapter_check import check_adapter
from steerzo_edge.model.adapter_file import CONFIG, WEIGHTS, file_sha256
from steerzo_edge.storage.files import sync_file, write_json

DEFAULT_NAME = "adapter"
NAME_CHARACTERS = 90  # leaves room for a number to be appended


def keep_adapter(server: Context, form: UploadForm) -> AdapterRow:
    """Checks an uploaded adapter and stores it.

    Args:
        server: The server's parts.
        form: A zip of a PEFT directory, or its weights and the field `config`; optionally the field `name`.

    Raises:
        AdapterFileError: If it cannot be served on this base, with every reason.
        ConflictError: If the name is taken.
        StorageError: If the disk is full or fails, or there are too many adapters.
    """
    given = form.fields.get("name") or None
    name = _default_name(form.file.name) if given is None else NameBody.parse({"name": given}, where="form").name
    # Sizes of layers never change, so they may be read outside the device's thread.
    base = server.device.base
    shapes = {layer: (linear.in_features, linear.out_features) for layer, linear in base.bank.layers.items()}
    with disk_errors_as_storage_errors():
        incoming = server.adapters.files.fresh()
        try:
            _fill(incoming, form, server.settings.max_upload_bytes)
            config = check_adapter(incoming, shapes)
            write_json(incoming / CONFIG, config)
            sync_file(incoming / WEIGHTS)
            return _add(server, incoming, name, config, exact=given is not None)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)


def remove_adapter(server: Context, row: AdapterRow) -> None:
    """Deletes an adapter; answers that are under way finish with the copy in memory.

    Raises:
        ConflictError: If its job is running.
        NotFoundError: If it was deleted already.
    """
    server.adapters.table.remove(row.id)
    server.adapters.files.drop(row)
    server.adapters.cache.forget(row.owner)


def adapter_reply(server: Context, row: AdapterRow) -> dict[str, Any]:
    """An adapter as the API shows it."""
    return {
        "id": row.id,
        "name": row.name,
        "source": "upload" if row.job is None else "job",
        "job": row.job,
        "created": row.created,
        "sha256": row.sha256,
        "loaded": server.adapters.cache.holds(row),
        **row.facts,
    }


def _fill(directory: Path, form: UploadForm, most_bytes: int) -> None:
    """Writes the weights and the config of an upload into a directory."""
    config = form.fields.get("config")
    if is_zip(form.file.path):
        if config is not None:
            raise InputError("the zip contains a config already", hint="Leave the field `config` out.")
        unpack(form.file.path, directory, most_bytes=most_bytes)
        return
    if form.file.name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt")):
        raise AdapterFileError(
            f"{form.file.name!r} is not read, because loading it may run code", hint="Send safetensors."
        )
    if config is None:
        raise AdapterFileError(
            f"{form.file.name!r} is not a zip, and the field `config` is missing",
            hint="curl -F file=@adapter_model.safetensors -F config=@adapter_config.json URL/adapters",
        )
    if len(config.encode()) > MOST_CONFIG_BYTES:
        raise AdapterFileError(f"{CONFIG} has more than {MOST_CONFIG_BYTES} bytes")
    (directory / CONFIG).write_text(config, encoding="utf-8")
    form.file.path.rename(directory / WEIGHTS)


def _add(server: Context, incoming: Path, name: str, config: dict[str, Any], *, exact: bool) -> AdapterRow:
    sha256, config_sha256 = (file_sha256(incoming / file) for file in (WEIGHTS, CONFIG))
    parts = server.adapters
    held = parts.table.same_upload(sha256, config_sha256)
    if held is not None and (not exact or held.name == name):
        return held
    id = new_id("ad")
    facts = {
        "base": server.device.base.name,
        "rank": config["r"],
        "alpha": config["lora_alpha"],
        "targets": sorted({layer.rpartition(".")[2] for layer in config["target_modules"]}),
        "layers": len(config["target_modules"]),
        "bytes": (incoming / WEIGHTS).stat().st_size,
        "config_sha256": config_sha256,
    }
    parts.files.put(incoming, id)
    try:
        return parts.table.add(id, name, sha256, facts, exact=exact, most=server.settings.max_adapters)
    except BaseException:
        parts.files.drop(AdapterRow(id, name, None, 0.0, sha256, {}))
        raise


def _default_name(file: str) -> str:
    """A name made from the file's: characters that a name may not have become hyphens."""
    stem = PurePath(file).stem
    clean = "".join(c if c.isascii() and (c.isalnum() or c in "._ -") else "-" for c in stem).lstrip("._ -")
    return clean[:NAME_CHARACTERS] if clean and clean != PurePath(WEIGHTS).stem else DEFAULT_NAME
