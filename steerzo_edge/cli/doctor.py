"""`steerzo doctor`: what this machine has, whether the 4-bit kernel really works, and what to do if not."""

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import bitsandbytes as bnb
import psutil
import torch
import typer

from steerzo_edge.cli.output import EXIT_FAILED

PACKAGES = ("torch", "transformers", "bitsandbytes", "optimum", "fastapi", "safetensors")
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Args:
        what: Its name.
        ok: Whether work can go on.
        found: What was seen.
        mend: What to do, "" if nothing.
    """

    what: str
    ok: bool
    found: str
    mend: str = ""


def doctor_command(*, as_json: bool) -> None:
    """Prints every finding; exit code 1 if one of them stands in the way."""
    findings = [*_device(), _four_bit(), _memory(), _disk(), _versions()]
    for finding in findings:
        if as_json:
            typer.echo(json.dumps(asdict(finding)))
            continue
        typer.echo(f"{'ok  ' if finding.ok else 'FAIL'} {finding.what}: {finding.found}")
        if finding.mend:
            typer.echo(f"     {finding.mend}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(EXIT_FAILED)


def _device() -> Iterator[Finding]:
    yield Finding("cpu", True, f"{platform.machine()}, {torch.get_num_threads()} threads, {_capability()}")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            yield Finding("gpu", True, f"{properties.name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free")
        return
    mend = "Work runs on the CPU. In a container, start it with `docker run --gpus all`."
    yield Finding("gpu", True, f"none (torch {torch.__version__})", mend)


def _capability() -> str:
    return torch.backends.cpu.get_cpu_capability()


def _four_bit() -> Finding:
    """A product with real nf4 weights against the same product in float32."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 128, generator=generator)
    layer = bnb.nn.Linear4bit(128, 64, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
    layer.weight = bnb.nn.Params4bit(weight.bfloat16(), requires_grad=False, quant_type="nf4")
    x = torch.randn(8, 128, generator=generator).bfloat16()
    try:
        with torch.inference_mode():
            found = layer.to(device).eval()(x.to(device)).float().cpu()
    except (RuntimeError, OSError) as error:
        return Finding("4-bit kernel", False, str(error), "Reinstall bitsandbytes for this CPU or CUDA version.")
    exact = x.float() @ weight.T
    error_share = float((found - exact).norm() / exact.norm())
    ok = error_share < 0.2
    mend = "" if ok else "The kernel gives wrong numbers here; reinstall bitsandbytes."
    return Finding("4-bit kernel", ok, f"nf4 on {device} is {error_share:.1%} off the float32 product", mend)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    return Finding("memory", True, f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free")


def _disk() -> Finding:
    place = Path(os.environ.get("STEERZO_DATA_DIR", tempfile.gettempdir()))
    place = place if place.exists() else Path.home()
    free = shutil.disk_usage(place).free
    ok = free > GIB
    return Finding("disk", ok, f"{free / GIB:.1f} GiB free at {place}", "" if ok else "Free at least 1 GiB.")


def _versions() -> Finding:
    found = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return Finding("versions", True, f"Python {platform.python_version()}, {found}")
