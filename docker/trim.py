"""Removes files that the server never opens from its installed packages; run once, while the image is built.

    python docker/trim.py SITE_PACKAGES

bitsandbytes ships one library for each version of CUDA, ROCm and XPU. Two are kept: the one for the CPU, and the
one for the CUDA version that torch was built for. Headers, tests and command-line tools of torch, headers and
tests of pyarrow, and the tests of sympy are removed. The script fails if torch or bitsandbytes is missing, or if
there was nothing to remove.
"""

import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

UNUSED = (
    "torch/include",
    "torch/test",
    "torch/share",
    "pyarrow/include",
    "pyarrow/tests",
    "sympy/**/tests",
)
# torch starts this tool itself.
KEPT_TOOLS = {"torch_shm_manager"}


def unused(packages: Path) -> Iterator[Path]:
    """Files and directories to remove.

    Args:
        packages: A site-packages directory.

    Raises:
        SystemExit: If torch or bitsandbytes is missing.
    """
    libraries = {path.name: path for path in packages.glob("bitsandbytes/libbitsandbytes_*.so")}
    kept = {"libbitsandbytes_cpu.so"} & libraries.keys()
    if not kept:
        sys.exit(f"bitsandbytes is missing in {packages}")
    cuda = _cuda(packages)
    if cuda is not None:
        kept.add(_picked(cuda, libraries))
    yield from (path for name, path in libraries.items() if name not in kept)
    for pattern in UNUSED:
        yield from packages.glob(pattern)
    yield from (path for path in packages.glob("torch/bin/*") if path.name not in KEPT_TOOLS)


def _cuda(packages: Path) -> tuple[int, int] | None:
    """Major and minor version of the CUDA that torch was built for; None for a CPU build."""
    try:
        text = (packages / "torch/version.py").read_text()
    except OSError:
        sys.exit(f"torch is missing in {packages}")
    found = re.search(r"^cuda\b[^=]*= '(\d+)\.(\d+)'", text, re.MULTILINE)
    return None if found is None else (int(found[1]), int(found[2]))


def _picked(cuda: tuple[int, int], libraries: Iterable[str]) -> str:
    """The library that bitsandbytes loads: this version, else the next lower of its major, else the next higher."""
    found = [re.fullmatch(r"libbitsandbytes_cuda(\d\d)(\d+)\.so", name) for name in libraries]
    versions = sorted((int(m[1]), int(m[2])) for m in found if m is not None and int(m[1]) == cuda[0])
    if not versions:
        sys.exit(f"bitsandbytes has no library for CUDA {cuda[0]}")
    major, minor = max((version for version in versions if version <= cuda), default=versions[0])
    return f"libbitsandbytes_cuda{major}{minor}.so"


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.lstat().st_size for file in files)


def main() -> None:
    """Removes the files and reports how much space that freed."""
    packages = Path(sys.argv[1])
    found = list(unused(packages))
    freed = sum(map(_bytes, found))
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if not freed:
        sys.exit("found nothing to remove: the layout of the packages has changed")
    sys.stdout.write(f"{freed / 1e6:.0f} MB freed: {len(found)} files and directories removed\n")


if __name__ == "__main__":
    main()
