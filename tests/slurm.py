"""A Slurm cluster of one node on the loopback interface, with accounts: the real daemons, as Debian packages them."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.servers import Started, checked, free_ports, running, succeeds, wait_for

DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd")

SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld}
SlurmdPort={slurmd}
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=5
KillWait=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1
MaxArraySize=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd}
AccountingStoragePass={folder}/munge.socket
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=8000
PartitionName=test Nodes=ALL Default=YES State=UP
"""
SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={slurmdbd}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadbd}
StorageUser=slurm
StoragePass=slurm
"""
ACCOUNTS_SQL = "create user slurm@'127.0.0.1' identified by 'slurm'; grant all on *.* to slurm@'127.0.0.1';"


def missing() -> str | None:
    """Return why no cluster can be started here, or None."""
    absent = [name for name in DAEMONS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)}: not installed (slurm-wlm, slurmdbd and mariadb-server on Debian)"
    return None if os.geteuid() == 0 else "the daemons want to be started by root"


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Run a cluster during the block, and yield the environment in which `sbatch` and the like find it."""
    (folder / "state").mkdir(parents=True)
    values = {"folder": folder, "host": socket.gethostname(), "cores": os.cpu_count()}
    values |= dict(zip(DAEMONS[1:], free_ports(len(DAEMONS) - 1), strict=True))
    _write(folder / "slurm.conf", SLURM_CONF.format(**values).encode())
    _write(folder / "slurmdbd.conf", SLURMDBD_CONF.format(**values).encode())
    _write(folder / "munge.key", os.urandom(1024))
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    with ExitStack() as daemons:

        def start(*command: object) -> Started:
            output = folder / f"{command[0]}.out"
            return daemons.enter_context(running(*command, output=output, environment=environment))

        start(
            "munged", "--foreground", "--force", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed",
        )  # fmt: skip
        _start_database(folder, values["mariadbd"], start)
        accounts = start("slurmdbd", "-D")
        wait_for(lambda: succeeds("sacctmgr", "-n", "show", "cluster", environment=environment), accounts)
        controller, node = start("slurmctld", "-D"), start("slurmd", "-D")
        wait_for(lambda: _is_idle(environment), accounts, controller, node)
        yield environment


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    # The daemons take neither keys nor passwords from files that others can read.
    path.chmod(0o600)


def _start_database(folder: Path, port: object, start: Callable[..., Started]) -> None:
    data, connection = folder / "database", f"--socket={folder}/mariadb.socket"
    install = ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db"]
    checked([*install, "--auth-root-authentication-method=normal"])
    database = start(
        "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", connection, f"--port={port}",
        "--bind-address=127.0.0.1", f"--pid-file={folder}/mariadbd.pid",
    )  # fmt: skip
    wait_for(lambda: succeeds("mariadb", "--no-defaults", connection, "-e", ACCOUNTS_SQL), database)


def _is_idle(environment: dict[str, str]) -> bool:
    nodes = subprocess.run(["sinfo", "-h", "-o", "%t"], env=environment, capture_output=True, text=True)
    return "idle" in nodes.stdout
