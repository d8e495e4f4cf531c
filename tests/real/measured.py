"""Loads a base in this process and prints its resident memory in MiB as JSON: before, after, at most."""

import json
import sys
from pathlib import Path

import psutil

from steerzo_edge.model.load import load_base

MIB = 1 << 20


def resident() -> float:
    """Of this process, in MiB."""
    return float(psutil.Process().memory_info().rss) / MIB


if __name__ == "__main__":
    imports = resident()
    base = load_base(sys.argv[1], device="cpu")
    after = resident()
    # The kernel's own mark: `getrusage` begins with that of the process that started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024
    tensors = {tensor.data_ptr(): tensor for tensor in base.model.parameters()}
    packed = sum(tensor.nbytes for tensor in tensors.values()) / MIB
    largest = max(tensor.numel() for tensor in tensors.values()) * 4 / MIB
    sizes = {"imports": imports, "after": after, "peak": peak, "packed": packed, "largest": largest}
    sys.stdout.write(json.dumps(sizes) + "\n")
