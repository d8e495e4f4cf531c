"""The checks of `steerzo doctor`: one function for each, with a fix for what it finds.

device    processor, graphics card, driver, the CUDA version that torch was built for
kernels   quantized products of bitsandbytes, compared with the same product of the expanded weight
space     free memory, free disk, whether the data directory is writable
versions  of the packages whose behaviour matters
"""

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil
import torch
from packaging.requirements import Requirement

from steerzo_edge.estimate import free_bytes
from steerzo_edge.model.load import default_device
from steerzo_edge.model.quantization import STORAGES

Verdict = Literal["ok", "warning", "failed"]
PACKAGES = ("torch", "transformers", "bitsandbytes", "optimum", "accelerate", "safetensors", "fastapi", "pydantic")
GIB = 1 << 30
LEAST_MEMORY, GOOD_MEMORY = GIB // 2, 2 * GIB
LEAST_DISK, GOOD_DISK = GIB // 4, 2 * GIB
# bf16 products of 512 numbers differ from float32 ones by 0.3 %; those of a kernel with wrong scales by far more.
TOLERANCE = 0.02
# Relative error of quantized weights: on normally distributed numbers nf4 has 0.09, int8 0.01.
ROUNDING = {"nf4": 0.15, "int8": 0.03}
NVIDIA_SMI_S = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Args:
        what: The name of the check.
        verdict: "ok", "warning" if runs are possible anyway, or "failed" if they are not.
        found: What the check found.
        fix: What to do, "" if nothing.
    """

    what: str
    verdict: Verdict
    found: str
    fix: str = ""

    @property
    def ok(self) -> bool:
        """Whether runs are possible."""
        return self.verdict != "failed"


def examined() -> Iterator[Finding]:
    """Runs all checks, one after another."""
    yield processor()
    yield from cards()
    yield kernel("nf4")
    yield kernel("int8")
    yield memory()
    yield from disk(data_directory())
    yield from versions()


def processor() -> Finding:
    """Checks the CPU: its threads, and the widest instructions that torch uses on it."""
    found = f"{platform.machine()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    if torch.get_num_threads() <= (os.cpu_count() or 1):
        return Finding("cpu", "ok", found)
    fix = "More threads than cores slow each other down: set OMP_NUM_THREADS to the number of cores."
    return Finding("cpu", "warning", found, fix)


def cards() -> Iterator[Finding]:
    """Checks the graphics cards and the driver, and whether torch can use them."""
    driver, built = _driver(), torch.version.cuda
    if torch.cuda.is_available():
        yield Finding("driver", "ok", f"NVIDIA {driver or 'unknown'}; torch was built for CUDA {built}")
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            yield Finding("gpu", "ok", f"{properties.name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free")
        return
    if driver is None:
        fix = "Work runs on the CPU. In a container with a card, start it with `docker run --gpus all`."
        yield Finding("gpu", "ok", f"none (torch {torch.__version__})", fix)
    elif built is None:
        fix = "Work runs on the CPU: install the CUDA build of torch (https://pytorch.org/get-started/locally)."
        yield Finding(
            "gpu", "warning", f"driver {driver}, but torch {torch.__version__} is built without CUDA", fix
        )
    else:
        fix = f"Update the driver to one for CUDA {built}, or install a torch built for an older CUDA."
        yield Finding("gpu", "failed", f"driver {driver}, but torch for CUDA {built} cannot use it", fix)


def kernel(kind: Literal["nf4", "int8"]) -> Finding:
    """Checks a quantized product on this device, with the kernels that generation and training use.

    Args:
        kind: The quantization of the weight.

    Note:
        It compares the product with that of the expanded weight, which shows a wrong kernel, and the expanded
        weight with the original one, which shows wrong codes.
    """
    device, what = default_device(), f"{kind} kernel"
    try:
        apart, rounding = _product(kind, device)
    except (RuntimeError, OSError, AssertionError, AttributeError, ValueError, NotImplementedError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        fix = f"Reinstall bitsandbytes for this {'CUDA version' if device == 'cuda' else 'processor'}"
        return Finding(what, "failed", f"{type(error).__name__}: {first}", f"{fix}, or use quantization: none.")
    found = f"on {device}, {apart:.2%} off the expanded weight's product, {rounding:.1%} off the weight itself"
    # `not <=`, so that a nan fails.
    if not apart <= TOLERANCE + (ROUNDING["int8"] if kind == "int8" else 0) or not rounding <= ROUNDING[kind]:
        fix = "The kernel gives wrong numbers here: reinstall bitsandbytes, or use quantization: none."
        return Finding(what, "failed", found, fix)
    return Finding(what, "ok", found)


def memory() -> Finding:
    """Checks the free memory of the device, within a container's limit."""
    free, device = free_bytes(torch.device(default_device())), default_device()
    total = psutil.virtual_memory().total if device == "cpu" else torch.cuda.mem_get_info()[1]
    found = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free on {device}"
    fix = "Close other programs, raise the container's limit, or choose a smaller base; see `steerzo estimate`."
    if free < LEAST_MEMORY:
        return Finding("memory", "failed", found, fix)
    return Finding("memory", "warning", found, fix) if free < GOOD_MEMORY else Finding("memory", "ok", found)


def data_directory() -> Path:
    """The directory where a server would keep its data."""
    return Path(os.environ.get("STEERZO_DATA_DIR", Path.home() / ".steerzo"))


def disk(place: Path) -> Iterator[Finding]:
    """Checks the free space at a directory, and whether a file can be written there.

    Args:
        place: The data directory; if it does not exist, the nearest parent that does is checked.
    """
    existing = next(parent for parent in (place, *place.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    found = f"{free / GIB:.1f} GiB free at {existing}"
    verdict: Verdict = "failed" if free < LEAST_DISK else "warning" if free < GOOD_DISK else "ok"
    yield Finding(
        "disk",
        verdict,
        found,
        "" if verdict == "ok" else "Free some space, or set STEERZO_DATA_DIR to another disk.",
    )
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        fix = "Make it writable for this user, or set STEERZO_DATA_DIR to a directory that is."
        yield Finding("data directory", "failed", f"{existing}: {error.strerror or error}", fix)
        return
    yield Finding(
        "data directory", "ok", f"{existing} takes files" + ("" if existing == place else f" ({place} is new)")
    )


def versions() -> Iterator[Finding]:
    """Checks the versions of important packages against the requirements of this one."""
    wanted = {need.name: need.specifier for need in map(Requirement, metadata.requires("steerzo-edge") or ())}
    found, wrong = [f"Python {platform.python_version()}"], []
    for name in PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        found.append(f"{name} {version}")
        if name in wanted and not wanted[name].contains(version, prereleases=True):
            wrong.append(f"{name} {version} is not {wanted[name]}")
    yield Finding("versions", "ok", ", ".join(found))
    if wrong:
        yield Finding("requirements", "failed", "; ".join(wrong), "Install them again: pip install -U steerzo-edge")


def _driver() -> str | None:
    """The version of the NVIDIA driver; None without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


def _product(kind: Literal["nf4", "int8"], device: str) -> tuple[float, float]:
    """Two relative errors: of the product, and of the expanded weight against the original one."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(256, 512, generator=generator)
    x = torch.randn(1, 512, generator=generator).bfloat16().to(device)
    storage = STORAGES[kind]
    layer = storage.linear(storage.layer(weight.to(device), None, torch.bfloat16))
    with torch.inference_mode():
        expanded = layer.weight(torch.bfloat16).float()
        found = layer.decode_matmul(x).float()
        exact = x.float() @ expanded.T
    return _apart(found, exact), _apart(expanded.cpu(), weight)


def _apart(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm() / exact.norm())
