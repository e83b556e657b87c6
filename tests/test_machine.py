"""Cores and memory of this process: of its own control group, in both versions, in a container and out of it."""

from pathlib import Path

import pytest

from digits_sweep.machine import UNKNOWN_BYTES, free_memory, usable_cores

MB = 2**20


def system(root: Path, groups: str | None, files: dict[str, str], memory: str = "") -> Path:
    """A machine whose process is in these control groups, with files below `sys/fs/cgroup`."""
    proc = {"proc/self/cgroup": groups, "proc/meminfo": memory} if groups else {}
    for name, content in {**proc, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


V2 = "0::/user.slice/job\n"
V2_CONTAINER = "0::/\n"
V1 = "7:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n0::/\n"


def quota(folder: str, microseconds: int) -> dict[str, str]:
    """The files of version 1 that give a group so much time in a period."""
    return {f"{folder}/cpu.cfs_quota_us": str(microseconds), f"{folder}/cpu.cfs_period_us": "100000"}


CORES = {
    "no limit": (V2, {"user.slice/job/cpu.max": "max 100000"}, 16),
    "its own group": (V2, {"user.slice/job/cpu.max": "250000 100000"}, 2),
    "a group around it": (V2, {"user.slice/cpu.max": "300000 100000"}, 3),
    "less than a core": (V2, {"user.slice/job/cpu.max": "50000 100000"}, 1),
    "another group": (V2, {"user.slice/other/cpu.max": "100000 100000"}, 16),
    "a container, version 2": (V2_CONTAINER, {"cpu.max": "400000 100000"}, 4),
    "a container, version 1": (V1, quota("cpu", 200_000), 2),
    "version 1, two controllers": (V1, quota("cpu,cpuacct/docker/ab", 500_000), 5),
    "version 1, no limit": (V1, quota("cpu", -1), 16),
    "no such system": (None, {}, 16),
    "nonsense": (V2_CONTAINER, {"cpu.max": "many\n"}, 16),
}


@pytest.mark.parametrize("case", CORES)
def test_cores_are_those_that_the_control_groups_give_time_to(case, tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(16)), raising=False)
    groups, files, cores = CORES[case]
    assert usable_cores(system(tmp_path, groups, files)) == cores


MEMINFO = f"MemTotal: 99 kB\nMemAvailable: {8_000 * 1024} kB\n"
JOB = "user.slice/job/memory"
MEMORY = {
    "no limit": (V2, {f"{JOB}.max": "max", f"{JOB}.current": "5"}, 8_000),
    "its own group": (V2, {f"{JOB}.max": f"{3_000 * MB}", f"{JOB}.current": f"{2_000 * MB}"}, 1_000),
    "files that were read are given back": (
        V2,
        {
            f"{JOB}.max": f"{3_000 * MB}",
            f"{JOB}.current": f"{2_000 * MB}",
            f"{JOB}.stat": f"anon 7\ninactive_file {500 * MB}\n",
        },
        1_500,
    ),
    "version 1": (
        V1,
        {"memory/memory.limit_in_bytes": f"{2_000 * MB}", "memory/memory.usage_in_bytes": f"{1_900 * MB}"},
        100,
    ),
    "over its limit": (V2, {f"{JOB}.max": "10", f"{JOB}.current": "20"}, 0),
    "no such system": (None, {}, UNKNOWN_BYTES // MB),
}


@pytest.mark.parametrize("case", MEMORY)
def test_memory_is_what_machine_and_control_groups_still_give(case, tmp_path):
    groups, files, megabytes = MEMORY[case]
    assert free_memory(system(tmp_path, groups, files, MEMINFO)) == megabytes * MB


def test_this_machine_has_some_of_both():
    assert usable_cores() >= 1
    assert 0 < free_memory() <= UNKNOWN_BYTES
