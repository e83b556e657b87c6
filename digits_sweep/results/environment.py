"""Where a run was made: machine, versions, and the commit of the program."""

import os
import platform
import socket
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from digits_sweep import __version__

PACKAGES = ("torch", "torchvision", "numpy", "pandas", "hydra-core", "omegaconf")


@cache
def describe_environment() -> dict[str, object]:
    """Return everything outside the configuration that a figure may depend on, as JSON-ready values."""
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {"digits_sweep": __version__} | {name: _installed(name) for name in PACKAGES},
        "git_commit": git_commit(),
    }


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def git_commit() -> str | None:
    """Return the commit of this program's own checkout, with `-dirty` if files differ; None if it runs from elsewhere.

    A repository that the program is merely installed in, such as the user's own with a `.venv`, does not count.
    """
    checkout = Path(__file__).resolve().parents[2]
    root = _git(checkout, "rev-parse", "--show-toplevel")
    if root is None or Path(root).resolve() != checkout or not (checkout / "pyproject.toml").is_file():
        return None
    return _git(checkout, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints about the repository that `folder` lies in, or None if there is none or no git."""
    # A hook of another repository, which this program may be started from, names that one in GIT_DIR. And looking
    # must not write to the index.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        found = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=kept | {"GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
