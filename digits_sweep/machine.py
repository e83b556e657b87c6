"""What this process may use of its machine: cores and memory, as far as its control groups let it.

A container, a job of a cluster and a service of systemd each have a control group, with limits that the machine's own
figures say nothing of. Version 1 has a hierarchy for every controller, version 2 one for all.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# More than any machine has: what is free if the system does not say.
UNKNOWN_BYTES = 2**40


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may keep busy: its affinity, and the share of time of its control groups."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        # Not every system says which cores are this process's own.
        cores = os.cpu_count() or 1
    shares = [cores, *(quota / period for quota, period in _cpu_limits(root) if quota > 0 and period > 0)]
    return max(1, int(min(shares)))


def free_memory(root: Path = Path("/")) -> int:
    """Return how many bytes this process can still get; a terabyte if nothing says it."""
    free = [UNKNOWN_BYTES]
    with suppress(OSError, ValueError, StopIteration):
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        free.append(1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    free += [limit - used for limit, used in _memory_limits(root)]
    return max(0, min(free))


def _cpu_limits(root: Path) -> Iterator[tuple[float, float]]:
    """Yield the microseconds of processor time that each control group has in a period, and the period."""
    for folder in _groups(root, ""):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            yield float(quota), float(period)
    for folder in _groups(root, "cpu"):
        with suppress(OSError, ValueError):
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            yield float(quota), float(period)


def _memory_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yield the bytes that each control group may have, and those that it has and would not give back."""
    for controller, limit, used, cache in (
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        for folder in _groups(root, controller):
            with suppress(OSError, ValueError):
                most, now = (int((folder / name).read_text()) for name in (limit, used))
                with suppress(OSError, ValueError, KeyError):
                    # Files that were read lately count as used, and are dropped when memory is wanted.
                    lines = (folder / "memory.stat").read_text().splitlines()
                    now -= int(dict(line.split() for line in lines)[cache])
                yield most, now


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control group and of those around it; `controller` "" is version 2.

    In a container the path may be the machine's, while the folder has the container's own group at its top.
    """
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller not in controllers.split(","):
                continue
            for name in dict.fromkeys((controllers, controller)):
                top = root / "sys/fs/cgroup" / name
                group = top / path.strip("/")
                yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))
