"""A throw-away SLURM cluster on one machine, with LEONARDO's names.

Real munge, MariaDB, slurmdbd and slurmctld, one slurmd a node, four fake GPUs a node. Started
inside namespaces of its own (`isolated.sh`), so nothing of it is seen outside and nothing
outlives it; every daemon is also ended by the process id that it wrote to its pid file.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

NODES = ("lrdn0001", "lrdn0002", "lrdn0003")  # one may die, and two-node jobs still fit
ACCOUNT = "steadfast_test"
GPUS = 4  # a node, as on LEONARDO's Booster
CORES, MEMORY_MB = 32, 494000  # as on LEONARDO's Booster, whatever this machine has
PATIENCE_S = 90.0  # for a daemon to answer on a busy machine

SLURM_CONF = """
ClusterName=leonardo
SlurmctldHost=localhost
SlurmUser=root
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdSpoolDir={folder}/spool.%n
StateSaveLocation={folder}/slurmctld.state
SlurmdParameters=config_overrides
AuthType=auth/munge
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits,qos
AccountingStoreFlags=job_comment
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
ReturnToService=2
SlurmdTimeout=10
KillWait=10
MessageTimeout=30
SchedulerParameters=bf_interval=2,sched_min_interval=500000
NodeName={nodes} NodeAddr=127.0.0.1 NodeHostName=localhost Port=[17001-1700{count}] \
CPUs={cores} CoresPerSocket={cores} ThreadsPerCore=1 RealMemory={memory} Gres=gpu:{gpus}
PartitionName=lrd_all_serial Nodes={serial} Default=YES MaxTime=04:00:00 MaxNodes=1 \
MaxCPUsPerNode=4 MaxMemPerNode=30800
PartitionName=boost_usr_prod Nodes={nodes} MaxTime=24:00:00 MaxNodes=64
"""

SLURMDBD_CONF = """
AuthType=auth/munge
DbdHost=localhost
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct_db
"""


class Cluster:
    """The daemons, from `start` to `stop`.

    Args:
        folder: for configuration, logs, state and the accounting database.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start everything in order, and wait until all nodes are idle."""
        self._write_configuration()
        self._start_munge()
        self._start_database()
        self._start_slurmdbd()
        run("sacctmgr", "-i", "add", "cluster", "leonardo")
        run("sacctmgr", "-i", "add", "account", ACCOUNT, "cluster=leonardo")
        run("sacctmgr", "-i", "add", "qos", "boost_qos_dbg", "MaxWall=00:30:00")
        run("sacctmgr", "-i", "add", "user", "root", f"account={ACCOUNT}")
        run("sacctmgr", "-i", "modify", "user", "root", "set", "qos=normal,boost_qos_dbg")
        self._spawn("slurmctld", "-D", "-c")
        wait_for(lambda: answers("scontrol", "ping"), "slurmctld")
        for node in NODES:
            self.start_node(node)
        wait_for(lambda: set(self.node_states().values()) == {"idle"}, "all nodes to be idle")

    def stop(self) -> None:
        """End every daemon by the id in its pid file, the last started first."""
        names = [*(f"slurmd.{node}" for node in NODES), "slurmctld", "slurmdbd", "mysqld", "munge"]
        for name in names:
            end(read_pid(self.folder / f"{name}.pid"), signal.SIGTERM)
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(20)
            if child.poll() is None:
                child.kill()
                child.wait()

    def start_node(self, node: str) -> None:
        """Start the slurmd of one node."""
        self._spawn("slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """Kill a node as a power cut would: its slurmd, its job steps and all they started.

        Every process of a job carries the node's name in its environment; a step's manager
        (slurmstepd) is the parent of such a process.
        """
        end(read_pid(self.folder / f"slurmd.{node}.pid"), signal.SIGKILL)
        doomed = processes_with(f"SLURMD_NODENAME={node}")
        managers = {parent_of(pid) for pid in doomed} - {None}
        for pid in [pid for pid in managers if pid and name_of(pid).startswith("slurmstepd")]:
            end(pid, signal.SIGKILL)
        for pid in doomed:
            end(pid, signal.SIGKILL)

    def node_states(self) -> dict[str, str]:
        """Return the state of each node, such as `idle`, `mixed` or `down*`."""
        lines = run("sinfo", "-h", "-N", "-p", "boost_usr_prod", "-o", "%N %T").splitlines()
        return dict(line.split() for line in lines)

    def _write_configuration(self) -> None:
        slurm = Path("/etc/slurm")  # a file system of its own in here; the jobs look there
        values = {
            "folder": self.folder,
            "nodes": f"lrdn000[1-{len(NODES)}]",
            "serial": NODES[-1],
            "count": len(NODES),
            "cores": CORES,
            "memory": MEMORY_MB,
            "gpus": GPUS,
            "password": secrets.token_hex(8),
        }
        self._password = str(values["password"])
        (slurm / "slurm.conf").write_text(SLURM_CONF.format(**values))
        (slurm / "slurmdbd.conf").write_text(SLURMDBD_CONF.format(**values))
        (slurm / "slurmdbd.conf").chmod(0o600)  # slurmdbd refuses anything wider
        devices = [self.folder / f"nvidia_fake{number}" for number in range(GPUS)]
        for device in devices:  # SLURM wants device files; these are /dev/null
            os.mknod(device, 0o600 | 0o020000, os.makedev(1, 3))
        (slurm / "gres.conf").write_text(
            f"NodeName={values['nodes']} Name=gpu File={self.folder}/nvidia_fake[0-{GPUS - 1}]\n"
        )
        (self.folder / "slurmctld.state").mkdir()
        for node in NODES:
            (self.folder / f"spool.{node}").mkdir()

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        places = [
            f"--{option}={self.folder}/munge.{suffix}"
            for option, suffix in {
                "key-file": "key",
                "pid-file": "pid",
                "log-file": "log",
                "seed-file": "seed",
            }.items()
        ]
        self._spawn("munged", "--foreground", "--force", *places)
        wait_for(lambda: answers("munge", "-n"), "munged")

    def _start_database(self) -> None:
        data = self.folder / "database"
        run("mariadb-install-db", "--user=root", f"--datadir={data}", "--skip-test-db")
        socket = self.folder / "mysqld.socket"
        self._spawn(
            "mariadbd",
            "--no-defaults",
            "--user=root",
            "--bind-address=127.0.0.1",
            f"--datadir={data}",
            f"--socket={socket}",
            f"--pid-file={self.folder}/mysqld.pid",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-lock-wait-timeout=900",  # what slurmdbd asks for
        )
        client = ["mariadb", f"--socket={socket}", "-u", "root", "-e"]
        wait_for(lambda: answers(*client, "select 1"), "MariaDB")
        run(
            *client,
            "create database slurm_acct_db; grant all on slurm_acct_db.* to slurm@'127.0.0.1' "
            f"identified by '{self._password}'; grant all on slurm_acct_db.* to slurm@localhost "
            f"identified by '{self._password}';",
        )

    def _start_slurmdbd(self) -> None:
        self._spawn("slurmdbd", "-D")
        wait_for(lambda: answers("sacctmgr", "-n", "show", "cluster"), "slurmdbd")

    def _spawn(self, *command: str) -> None:
        """Start a daemon in the foreground; its output goes to a file of its own."""
        name = "-".join(re.sub(r"\W", "", word) for word in (command[0], command[-1]))
        with (self.folder / f"{name[:40]}.out").open("ab") as output:
            child = subprocess.Popen(
                ["/usr/bin/env", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._children.append(child)


def run(*command: str) -> str:
    """Run a command to its end and return its output; its failure is ours."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        words = " ".join(command)[:200]
        raise RuntimeError(f"{words}: status {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def answers(*command: str) -> bool:
    """Tell whether a command succeeds."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return False
    return result.returncode == 0 and "DOWN" not in result.stdout


def wait_for(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until `condition` holds, or fail with `what` was waited for."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience_s:.0f} s in vain for {what}")
        time.sleep(0.5)


def read_pid(file: Path) -> int | None:
    """Return the process id in a pid file, or None."""
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):
        return None


def end(pid: int | None, number: signal.Signals) -> None:
    """Send a signal to one process, if it is still there."""
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def processes_with(variable: str) -> list[int]:
    """Return the processes in whose environment `variable` (`NAME=value`) stands."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def parent_of(pid: int) -> int | None:
    """Return the parent of a process, or None when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return int(next(line for line in status.splitlines() if line.startswith("PPid:")).split()[1])


def name_of(pid: int) -> str:
    """Return the command line of a process, or an empty text when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
