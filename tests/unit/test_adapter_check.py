"""Adapters from elsewhere: what is refused, in which words, and that nothing of an archive leads astray."""

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from server.errors import TooLargeError
from server.services.adapter_archive import MOST_ENTRIES, unpack
from steerzo_edge.errors import AdapterFileError
from steerzo_edge.model.adapter_check import check_adapter
from steerzo_edge.model.adapter_file import load_adapter
from steerzo_edge.model.base import Base
from tests.conftest import Loader
from tests.peft_directory import lora_files, lora_tensors, written, zip_of

MIB = 1 << 20


@pytest.fixture
def base(tiny: Loader) -> Base:
    return tiny("none", torch.float32)


def shapes_of(base: Base) -> dict[str, tuple[int, int]]:
    return {name: (layer.in_features, layer.out_features) for name, layer in base.bank.layers.items()}


def test_adapters_that_can_be_served_are_accepted(base: Base, tmp_path: Path) -> None:
    files = lora_files(base, 3, "q_proj", use_rslora=True, base_model_name_or_path="x/y", lora_dropout=0.1)
    directory = written(tmp_path / "a", files)
    config = check_adapter(directory, shapes_of(base))
    assert config["target_modules"] == [f"model.layers.{index}.self_attn.q_proj" for index in range(3)]
    before = load_adapter(directory, base)
    (directory / "adapter_config.json").write_text(json.dumps(config))
    after = load_adapter(directory, base)
    assert {name: patch.scale for name, patch in before.items()} == {name: p.scale for name, p in after.items()}  # type: ignore[attr-defined]
    assert next(iter(after.values())).scale == 8 / 3**0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"task_type": "SEQ_CLS"}, "task_type"),
        ({"r": 0}, "r"),
        ({"r": "4"}, "r"),
        ({"r": True}, "r"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"lora_alpha": float("nan")}, "lora_alpha"),
        ({"lora_alpha": 10**400}, "lora_alpha"),
        ({"bias": "all"}, "bias"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern"),
        ({"rank_pattern": {"(": 8}}, "rank_pattern"),
        ({"rank_pattern": {"((a*)*)*b": 8}}, "rank_pattern"),
        ({"rank_pattern": {".*a.*b.*c": 8}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": float("nan")}}, "alpha_pattern"),
        ({"alpha_pattern": {"q_proj": "8"}}, "alpha_pattern"),
        ({"alpha_pattern": {f"layers.{n}.*q": 8 for n in range(65)}}, "alpha_pattern"),
        ({"use_bdlora": {"nblocks": 2}}, "use_bdlora"),
        ({"kasa_config": {"beta": 1}}, "kasa_config"),
        ({"a_setting_of_tomorrow": True}, "a_setting_of_tomorrow"),
        ({"init_lora_weights": "lora_ga"}, "init_lora_weights"),
        ({"init_lora_weights": "a_start_of_tomorrow"}, "init_lora_weights"),
        ({"init_lora_weights": 7}, "init_lora_weights"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
    ],
)
def test_settings_that_change_the_meaning_are_refused(
    base: Base, tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    directory = written(tmp_path, lora_files(base) | {})
    config = json.loads((directory / "adapter_config.json").read_text()) | changes
    (directory / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(AdapterFileError) as refused:
        check_adapter(directory, shapes_of(base))
    assert field in {fault.field for fault in refused.value.faults}


def test_all_faults_of_the_weights_are_listed_together(base: Base, tmp_path: Path) -> None:
    tensors = lora_tensors(base)
    names = list(base.bank.layers)

    def key(layer: int, part: str) -> str:
        return f"base_model.model.{names[layer]}.lora_{part}.weight"

    tensors[key(0, "A")] = torch.zeros(4, 3)
    tensors[key(1, "B")][0, 0] = float("nan")
    tensors[key(2, "A")] = tensors[key(2, "A")].to(torch.float64)
    tensors[key(3, "A")] = torch.zeros(5, base.bank.layers[names[3]].in_features)
    del tensors[key(4, "B")]
    tensors["base_model.model.lm_head.lora_A.weight"] = torch.zeros(4, 64)
    files = lora_files(base, kasa_config={"x": 1}) | {"adapter_model.safetensors": save(tensors)}
    with pytest.raises(AdapterFileError) as refused:
        check_adapter(written(tmp_path, files), shapes_of(base))
    found = {fault.field: fault.found for fault in refused.value.faults}
    assert found == {
        "kasa_config": "'{\"x\": 1}'",
        key(1, "B"): "nan or infinity",
        key(2, "A"): "F64",
        "base_model.model.lm_head.lora_A.weight": "a name",
    }


def test_ranks_are_compared_when_the_settings_are_right(base: Base, tmp_path: Path) -> None:
    tensors = lora_tensors(base)
    names = list(base.bank.layers)
    key = f"base_model.model.{names[0]}.lora_A.weight"
    tensors[key] = torch.zeros(5, base.bank.layers[names[0]].in_features)
    del tensors[f"base_model.model.{names[1]}.lora_B.weight"]
    files = lora_files(base) | {"adapter_model.safetensors": save(tensors)}
    with pytest.raises(AdapterFileError) as refused:
        check_adapter(written(tmp_path / "a", files), shapes_of(base))
    assert {fault.field: fault.found for fault in refused.value.faults} == {
        key: f"shape [5, {base.bank.layers[names[0]].in_features}]",
        names[1]: "only lora_A",
    }
    magnitude = torch.ones(base.bank.layers[names[0]].out_features)
    tensors = lora_tensors(base) | {f"base_model.model.{names[0]}.lora_magnitude_vector": magnitude}
    files = lora_files(base) | {"adapter_model.safetensors": save(tensors)}
    with pytest.raises(AdapterFileError) as refused:
        check_adapter(written(tmp_path / "b", files), shapes_of(base))
    assert refused.value.faults[0].found == "a name"
    files = lora_files(base, use_dora=True)
    with pytest.raises(AdapterFileError) as refused:
        check_adapter(written(tmp_path / "c", files), shapes_of(base))
    assert refused.value.faults[0].found == "only lora_A and lora_B"


@pytest.mark.parametrize("start", [True, False, None, "gaussian", "eva", "orthogonal", "mica"])
def test_starts_that_keep_the_base_are_accepted(base: Base, tmp_path: Path, start: Any) -> None:
    directory = written(tmp_path, lora_files(base, init_lora_weights=start))
    assert "init_lora_weights" not in check_adapter(directory, shapes_of(base))
    assert load_adapter(directory, base)


@pytest.mark.parametrize("start", ["lora_ga", "pissa", "olora", "corda", "loftq", "a_start_of_tomorrow"])
def test_a_directory_with_another_start_is_not_loaded_either(base: Base, tmp_path: Path, start: str) -> None:
    directory = written(tmp_path, lora_files(base, init_lora_weights=start))
    with pytest.raises(AdapterFileError, match="init_lora_weights"):
        load_adapter(directory, base)


@pytest.mark.parametrize(
    "weights",
    [
        b"",
        b"junk",
        struct.pack("<Q", 10**18) + b"{}",
        struct.pack("<Q", 90_000_000) + b"{" * 100,
        struct.pack("<Q", 2) + b"{}",
        save({"base_model.model.x.lora_A.weight": torch.zeros(4, 4)}),
    ],
)
def test_files_that_hold_no_adapter_are_refused(base: Base, tmp_path: Path, weights: bytes) -> None:
    files = lora_files(base) | {"adapter_model.safetensors": weights}
    with pytest.raises(AdapterFileError):
        check_adapter(written(tmp_path, files), shapes_of(base))


@pytest.mark.parametrize("config", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_an_adapter_config_that_is_not_a_json_object_is_refused(base: Base, tmp_path: Path, config: bytes) -> None:
    with pytest.raises(AdapterFileError):
        check_adapter(written(tmp_path, lora_files(base) | {"adapter_config.json": config}), shapes_of(base))


def unpacked(tmp_path: Path, data: bytes, most_bytes: int = MIB) -> dict[str, bytes]:
    (tmp_path / "sent.zip").write_bytes(data)
    target = tmp_path / "out"
    target.mkdir()
    unpack(tmp_path / "sent.zip", target, most_bytes=most_bytes)
    return {path.name: path.read_bytes() for path in target.iterdir()}


@pytest.mark.parametrize("prefix", ["", "mine/", "./"])
def test_two_files_are_taken_and_no_others(base: Base, tmp_path: Path, prefix: str) -> None:
    files = lora_files(base)
    assert unpacked(tmp_path, zip_of(files | {"README.md": b"x", "training_args.bin": b"x"}, prefix)) == files


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "a/../../evil", "C:\\evil", "..\\evil", "a\x00b", "evil\n", "a/b/../../../evil"],
)
def test_archive_names_outside_the_directory_are_refused(base: Base, tmp_path: Path, name: str) -> None:
    data = zip_of(lora_files(base) | {"placeholder": b"x"}).replace(b"placeholder", name.encode().ljust(11, b"_"))
    if len(name) > 11:
        data = zip_of(lora_files(base) | {name: b"x"})
    with pytest.raises(AdapterFileError, match="zip"):
        unpacked(tmp_path, data)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "sent.zip"]
    assert not list((tmp_path / "out").iterdir())


def test_links_and_locked_and_doubled_entries(base: Base, tmp_path: Path) -> None:
    files = lora_files(base)

    def made(**changes: Any) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in files.items():
                info = zipfile.ZipInfo(name)
                for key, value in changes.items():
                    setattr(info, key, value)
                archive.writestr(info, data)
        return buffer.getvalue()

    doubled = io.BytesIO(zip_of(files))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(doubled, "a") as archive:
        archive.writestr("adapter_config.json", b"{}")
    locked = bytearray(made())
    locked[locked.rfind(b"PK\x01\x02") + 8] |= 1
    bad = {
        "link": made(external_attr=0o120777 << 16),
        "doubled": doubled.getvalue(),
        "locked": bytes(locked),
        "unusual": zip_of(files, packed=zipfile.ZIP_LZMA),
        "many": zip_of(files | {str(index): b"" for index in range(MOST_ENTRIES)}),
        "cut": zip_of(files)[:-30],
        "damaged": zip_of(files, packed=zipfile.ZIP_STORED).replace(b"CAUSAL", b"CASUAL", 1),
        "deep": zip_of(files, "a/b/"),
        "pickled": zip_of({"adapter_config.json": b"{}", "adapter_model.bin": b"x"}),
    }
    for case, data in bad.items():
        (tmp_path / case).mkdir()
        with pytest.raises(AdapterFileError) as refused:
            unpacked(tmp_path / case, data)
        assert ("may run code" in str(refused.value)) == (case == "pickled"), case


def test_a_zip_bomb_is_refused_while_it_is_unpacked(base: Base, tmp_path: Path) -> None:
    bomb = zip_of(lora_files(base) | {"adapter_model.safetensors": bytes(64 * MIB)})
    assert len(bomb) < MIB
    with pytest.raises(TooLargeError):
        unpacked(tmp_path, bomb)
    assert (tmp_path / "out" / "adapter_model.safetensors").stat().st_size <= MIB
    lying = bytearray(bomb)
    for offset in range(len(lying) - 4):  # both places that say how large it will be
        if lying[offset : offset + 4] == struct.pack("<L", 64 * MIB):
            lying[offset : offset + 4] = struct.pack("<L", 1000)
    (tmp_path / "lying").mkdir()
    with pytest.raises(AdapterFileError):
        unpacked(tmp_path / "lying", bytes(lying))


def test_the_list_of_entries_is_not_read_if_it_is_large(base: Base, tmp_path: Path) -> None:
    data = bytearray(zip_of(lora_files(base)))
    data[-12:-10] = b"\xff\xff"
    data[-10:-8] = b"\xff\xff"
    with pytest.raises(AdapterFileError, match="256 files"):
        unpacked(tmp_path, bytes(data))
