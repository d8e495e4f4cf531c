"""The memory of this process that is resident, as Linux counts it."""

from pathlib import Path
from typing import Literal

_PROCESS = Path("/proc/self")


def resident(figure: Literal["VmRSS", "VmHWM"] = "VmRSS") -> int:
    """Bytes that are resident.

    Args:
        figure: "VmRSS" for now, "VmHWM" for the most since the process began or since `forget_peak`.

    Raises:
        OSError: On a system without /proc.
    """
    lines = (_PROCESS / "status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(figure)).split()[1])


def forget_peak() -> None:
    """Lets the most that was resident count from now on.

    Raises:
        OSError: On a system without /proc, or one that does not allow it.
    """
    (_PROCESS / "clear_refs").write_text("5")
