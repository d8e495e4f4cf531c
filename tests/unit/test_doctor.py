"""`steerzo doctor`: what it finds on a machine that has something wrong with it, and what it says to do."""

import json
from collections import namedtuple
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from server.commands.app import app
from steerzo_edge.cli import findings
from steerzo_edge.cli.findings import GIB, cards, disk, kernel, memory, versions
from steerzo_edge.model.weights.four_bit import FourBitLinear
from steerzo_edge.model.weights.int8 import Int8Linear

Usage = namedtuple("Usage", "total used free")


def doctor(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = CliRunner().invoke(app, ["doctor", "--json", *arguments])
    found = [json.loads(line) for line in done.output.splitlines()]
    return done.exit_code, {finding["what"]: finding for finding in found}


def test_a_sound_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERZO_DATA_DIR", str(tmp_path))
    code, found = doctor()
    assert code == 0, found
    assert found["nf4 kernel"]["verdict"] == found["int8 kernel"]["verdict"] == "ok"
    assert f"torch {torch.__version__}" in found["versions"]["found"]


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_kernel_that_gives_wrong_numbers(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    linear: Any = {"nf4": FourBitLinear, "int8": Int8Linear}[kind]
    right = linear.decode_matmul
    monkeypatch.setattr(linear, "decode_matmul", lambda self, x: right(self, x) * 1.1)
    found = kernel(kind)
    assert found.verdict == "failed"
    assert "wrong numbers" in found.fix


def test_a_kernel_that_gives_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_a_number(self: FourBitLinear, x: torch.Tensor) -> torch.Tensor:
        return torch.full((1, 256), torch.nan, device=x.device)

    monkeypatch.setattr(FourBitLinear, "decode_matmul", not_a_number)
    assert kernel("nf4").verdict == "failed"


def test_quantized_codes_that_expand_to_wrong_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The product agrees with the expanded weight, but that is not what was quantized."""
    wrong = torch.zeros(256, 512, dtype=torch.bfloat16)
    wrong[0, 0] = 1
    monkeypatch.setattr(FourBitLinear, "weight", lambda self, dtype: wrong)
    monkeypatch.setattr(FourBitLinear, "decode_matmul", lambda self, x: x.cpu() @ wrong.T)
    monkeypatch.setattr(findings, "default_device", lambda: "cpu")
    assert kernel("nf4").verdict == "failed"


@pytest.mark.parametrize(
    "error", [RuntimeError("no kernel image is available"), OSError("libbitsandbytes"), AssertionError()]
)
def test_a_kernel_that_does_not_run(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, x: torch.Tensor) -> torch.Tensor:
        raise error

    monkeypatch.setattr(FourBitLinear, "decode_matmul", broken)
    monkeypatch.setattr(Int8Linear, "decode_matmul", broken)
    code, found = doctor()
    assert code == 1
    assert found["nf4 kernel"]["verdict"] == found["int8 kernel"]["verdict"] == "failed"
    assert type(error).__name__ in found["nf4 kernel"]["found"]
    assert "Reinstall bitsandbytes" in found["nf4 kernel"]["fix"]
    assert found["versions"]["verdict"] == "ok"  # one failure does not hide the rest


@pytest.mark.parametrize(("free", "verdict", "code"), [(8.0, "ok", 0), (1.0, "warning", 0), (0.1, "failed", 1)])
def test_free_memory(free: float, verdict: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "free_bytes", lambda device: round(free * GIB))
    found = memory()
    assert found.verdict == verdict
    assert bool(found.fix) is (verdict != "ok")
    assert doctor()[0] == code


@pytest.mark.parametrize(("free", "verdict"), [(8.0, "ok"), (1.0, "warning"), (0.1, "failed")])
def test_free_disk(free: float, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda place: Usage(GIB, 0, round(free * GIB)))
    space, directory = disk(tmp_path / "not" / "there" / "yet")
    assert space.verdict == verdict
    assert directory.verdict == "ok"
    assert str(tmp_path) in directory.found
    assert list(tmp_path.iterdir()) == []  # the check leaves no file behind


def test_a_directory_that_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**options: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    *_, directory = disk(tmp_path)
    assert directory.verdict == "failed"
    assert "Read-only file system" in directory.found
    assert doctor()[0] == 1


@pytest.mark.parametrize(
    ("driver", "built", "verdict", "says"),
    [
        (None, None, "ok", "none"),
        ("570.1", None, "warning", "built without CUDA"),
        ("450.1", "13.0", "failed", "cannot use it"),
    ],
)
def test_a_card_that_torch_cannot_use(
    driver: str | None, built: str | None, verdict: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(findings, "_driver", lambda: driver)
    (found,) = cards()
    assert found.verdict == verdict
    assert says in found.found
    assert found.fix


def test_a_package_that_is_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "optimum":
            raise PackageNotFoundError(name)
        return "0.1" if name == "transformers" else "100.0"

    monkeypatch.setattr("importlib.metadata.version", version)
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["transformers<6,>=5.0", "optimum>=2.0"])
    *_, wrong = versions()
    assert wrong.verdict == "failed"
    assert "transformers 0.1 is not" in wrong.found
    assert "optimum is missing" in wrong.found
