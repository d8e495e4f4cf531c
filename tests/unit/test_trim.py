"""What goes out of the image, on packages that only look like the real ones."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[2] / "docker" / "trim.py"
LIBRARIES = ("cpu", "cuda118", "cuda126", "cuda128", "cuda130", "cuda132", "rocm72", "xpu2025")


@pytest.fixture
def trim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trim", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    for name in LIBRARIES:
        path = tmp_path / "bitsandbytes" / f"libbitsandbytes_{name}.so"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 100)
    for name in (
        "torch/include/a.h",
        "torch/bin/protoc",
        "torch/bin/torch_shm_manager",
        "sympy/a/tests/b/tests/c.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path


def torch_for(packages: Path, cuda: str) -> None:
    text = f"__all__ = ['cuda']\ncuda: Optional[str] = {cuda}\nhip: Optional[str] = None\n"
    (packages / "torch/version.py").write_text(text)


@pytest.mark.parametrize(
    ("cuda", "kept"),
    [
        ("None", {"cpu"}),
        ("'13.0'", {"cpu", "cuda130"}),
        ("'13.1'", {"cpu", "cuda130"}),
        ("'12.9'", {"cpu", "cuda128"}),
        ("'11.7'", {"cpu", "cuda118"}),
    ],
)
def test_only_what_this_torch_loads_stays(
    trim: ModuleType, packages: Path, monkeypatch: pytest.MonkeyPatch, cuda: str, kept: set[str]
) -> None:
    torch_for(packages, cuda)
    monkeypatch.setattr("sys.argv", ["trim.py", str(packages)])
    trim.main()
    left = {path.stem.removeprefix("libbitsandbytes_") for path in (packages / "bitsandbytes").iterdir()}
    assert left == kept
    assert [path.name for path in (packages / "torch/bin").iterdir()] == ["torch_shm_manager"]
    assert not (packages / "torch/include").exists()
    assert not (packages / "sympy/a/tests").exists()
    with pytest.raises(SystemExit, match="found nothing to remove"):
        trim.main()


def test_packages_that_look_different_stop_the_build(trim: ModuleType, packages: Path) -> None:
    with pytest.raises(SystemExit, match="torch is missing"):
        list(trim.unused(packages))
    torch_for(packages, "'14.0'")
    with pytest.raises(SystemExit, match="CUDA 14"):
        list(trim.unused(packages))
    (packages / "bitsandbytes/libbitsandbytes_cpu.so").unlink()
    with pytest.raises(SystemExit, match="bitsandbytes is missing"):
        list(trim.unused(packages))
