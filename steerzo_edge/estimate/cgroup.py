"""Free memory within a container's limit, which may be far below the free memory of the machine.

    v2    /sys/fs/cgroup/memory.max                      memory.current           memory.stat: inactive_file
    v1    /sys/fs/cgroup/memory/memory.limit_in_bytes    memory.usage_in_bytes    memory.stat: total_inactive_file

Only the control group mounted there is read, which in a container is the container's; groups below it are not.
"""

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_VERSIONS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def cgroup_free_bytes(root: Path = ROOT) -> int | None:
    """Bytes that are free below the control group's limit; cached file pages that can be dropped count as free.

    Args:
        root: Where control groups are mounted.

    Returns:
        None if there is no limit, or if it cannot be read. Without a limit, v1 reports a number near 2**63; the
        result is then as large, so that the minimum with the machine's free memory is the machine's.
    """
    for limit, usage, stat, cache in _VERSIONS:
        try:
            most, used = (int((root / name).read_text()) for name in (limit, usage))
            pages = dict(line.split() for line in (root / stat).read_text().splitlines())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        return max(0, most - used + int(pages.get(cache, 0)))
    return None
