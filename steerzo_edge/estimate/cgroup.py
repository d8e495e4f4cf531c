"""Memory that a container's limit leaves: inside it, the machine's own free memory is no answer.

    v2    /sys/fs/cgroup/memory.max                      memory.current           memory.stat: inactive_file
    v1    /sys/fs/cgroup/memory/memory.limit_in_bytes    memory.usage_in_bytes    memory.stat: total_inactive_file

Reads the group that is mounted there, which in a container is its own; limits of groups below are not seen.
"""

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_VERSIONS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def cgroup_free_bytes(root: Path = ROOT) -> int | None:
    """Bytes up to the control group's limit; file pages that can be dropped count as free.

    Args:
        root: Where control groups are mounted.

    Returns:
        None where there is no limit, or none that can be read. Without a limit, v1 says a number near 2**63: the
        answer is then as large, and never the smaller one beside the machine's free memory.
    """
    for limit, usage, stat, cache in _VERSIONS:
        try:
            most, used = (int((root / name).read_text()) for name in (limit, usage))
            pages = dict(line.split() for line in (root / stat).read_text().splitlines())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        return max(0, most - used + int(pages.get(cache, 0)))
    return None
