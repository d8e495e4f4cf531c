"""What libraries keep is bounded: a process does not grow with the number of batch shapes that it has seen."""

import os
import platform
import subprocess
import sys

import pytest

GROWN = """
import sys, ctypes
from pathlib import Path
import torch
from steerzo_edge.model.allocator import bound_kernel_caches, give_back, keep_large_blocks

def resident():
    give_back()
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])

keep_large_blocks()
if sys.argv[1] == "bounded":
    bound_kernel_caches()
weights = [torch.ones(outputs, inputs, dtype=torch.bfloat16) for outputs, inputs in ((1024, 256), (256, 1024))]

def batch(tokens):
    with torch.inference_mode():
        for weight in weights:
            torch.nn.functional.linear(torch.ones(tokens, weight.shape[1], dtype=torch.bfloat16), weight)

batch(64)
before = resident()
for tokens in range(65, 265):
    batch(tokens)
print(resident() - before)
"""


def grown(how: str) -> int:
    """Bytes by which a fresh process grows over 200 shapes."""
    plain = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}
    done = subprocess.run(
        [sys.executable, "-c", GROWN, how], env=plain, check=True, stdout=subprocess.PIPE, text=True
    )
    return int(done.stdout)


@pytest.mark.long
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the measurement returns the heap's gaps with glibc")
def test_kernels_of_old_shapes_are_dropped() -> None:
    without = grown("unbounded")
    if without < 64 << 20:
        pytest.skip(f"this processor's kernels for 200 shapes take {without >> 20} MiB: there is nothing to bound")
    assert grown("bounded") < without / 3
