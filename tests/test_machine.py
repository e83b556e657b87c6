"""Cores and memory of this process: of its own control group, in both versions, in a container and out of it."""

from pathlib import Path

import pytest

from digits_sweep.machine import UNKNOWN_BYTES, free_memory, usable_cores

MB = 2**20


def system(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


V2 = {"proc/self/cgroup": "0::/user.slice/job\n"}
V1 = {"proc/self/cgroup": "7:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n0::/\n"}
CORES = {
    "no limit": ({**V2, "sys/fs/cgroup/user.slice/job/cpu.max": "max 100000"}, 16),
    "its own group": ({**V2, "sys/fs/cgroup/user.slice/job/cpu.max": "250000 100000"}, 2),
    "a group around it": ({**V2, "sys/fs/cgroup/user.slice/cpu.max": "300000 100000"}, 3),
    "less than a core": ({**V2, "sys/fs/cgroup/user.slice/job/cpu.max": "50000 100000"}, 1),
    "another group": ({**V2, "sys/fs/cgroup/user.slice/other/cpu.max": "100000 100000"}, 16),
    "a container, version 2": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
    "a container, version 1": (
        {**V1, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 2,
    ),
    "version 1, two controllers": (
        {
            **V1, "sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "500000",
            "sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_period_us": "100000",
        }, 5,
    ),
    "version 1, no limit": (
        {**V1, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 16,
    ),
    "no such system": ({}, 16),
    "nonsense": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "many\n"}, 16),
}  # fmt: skip


@pytest.mark.parametrize("case", CORES)
def test_cores_are_those_that_the_control_groups_give_time_to(case, tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(16)), raising=False)
    files, cores = CORES[case]
    assert usable_cores(system(tmp_path, files)) == cores


MEMINFO = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {8_000 * 1024} kB\n"}
JOB = "sys/fs/cgroup/user.slice/job"
MEMORY = {
    "no limit": ({**MEMINFO, **V2, f"{JOB}/memory.max": "max", f"{JOB}/memory.current": "5"}, 8_000),
    "its own group": (
        {**MEMINFO, **V2, f"{JOB}/memory.max": f"{3_000 * MB}", f"{JOB}/memory.current": f"{2_000 * MB}"}, 1_000,
    ),
    "files that were read are given back": (
        {
            **MEMINFO, **V2, f"{JOB}/memory.max": f"{3_000 * MB}", f"{JOB}/memory.current": f"{2_000 * MB}",
            f"{JOB}/memory.stat": f"anon 7\ninactive_file {500 * MB}\n",
        }, 1_500,
    ),
    "version 1": (
        {
            **MEMINFO, **V1, "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2_000 * MB}",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{1_900 * MB}",
        }, 100,
    ),
    "over its limit": ({**V2, f"{JOB}/memory.max": "10", f"{JOB}/memory.current": "20"}, 0),
    "no such system": ({}, UNKNOWN_BYTES // MB),
}  # fmt: skip


@pytest.mark.parametrize("case", MEMORY)
def test_memory_is_what_machine_and_control_groups_still_give(case, tmp_path):
    files, megabytes = MEMORY[case]
    assert free_memory(system(tmp_path, files)) == megabytes * MB


def test_this_machine_has_some_of_both():
    assert usable_cores() >= 1
    assert 0 < free_memory() <= UNKNOWN_BYTES
