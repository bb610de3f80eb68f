"""A real Slurm on this machine, in one folder: its own munge key, sockets, ports and state; nothing of it is left at the end.

Two nodes (two slurmd on one host) with two CPUs and two pretended GPUs each; a partition whose jobs are preempted and requeued
after a time of grace, and one that preempts them. It needs the programs of Debian's packages slurmctld, slurmd, slurm-client
and munge, and no other user's rights.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
NODES = ("tt1", "tt2")
FAKE_GPUS = ("/dev/null", "/dev/zero")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL")
Found = TypeVar("Found")


class NoSlurm(Exception):
    """Why no Slurm runs here."""


class Cluster:
    """A running Slurm; `environment` is what its commands need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}

    def run(self, *command: object) -> str:
        """What a Slurm command prints.

        Raises:
            RuntimeError: if it fails.
        """
        line = [str(part) for part in command]
        done = subprocess.run(line, env=self.environment, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(line)}: {done.stdout}{done.stderr}")
        return done.stdout

    def job(self, job: str) -> dict[str, str]:
        """What `scontrol show job` tells about one job."""
        return _fields(self.run("scontrol", "--oneliner", "show", "job", job))

    def wait_for_state(self, job: str, *states: str, seconds: float = 120) -> dict[str, str]:
        """Wait until the job is in one of these states.

        Raises:
            TimeoutError: if it is not after so many seconds.
        """

        def look() -> dict[str, str] | None:
            told = self.job(job)
            return told if told["JobState"] in states else None

        return wait_for(look, seconds, f"job {job} in {states}")

    def wait_for_end(self, *jobs: str, seconds: float = 400) -> list[str]:
        """The states in which these jobs ended.

        Slurm holds a job that was put back into the queue for two minutes, because nodes refuse credentials as old as those
        that they have revoked. Some seconds are enough.

        Raises:
            TimeoutError: if one still goes on after so many seconds.
        """

        held: dict[str, float] = {}

        def look() -> list[str] | None:
            lines = map(_fields, self.run("scontrol", "--oneliner", "show", "job").splitlines())
            told = {line["JobId"]: line for line in lines if line}
            for job in jobs:
                waits = (told[job]["JobState"], told[job]["Reason"]) == ("PENDING", "BeginTime")
                if waits and time.monotonic() - held.setdefault(job, time.monotonic()) > 4:
                    self.run("scontrol", "update", f"JobId={job}", "StartTime=now")
            states = [told[job]["JobState"] for job in jobs]
            return states if set(states) <= set(ENDED) else None

        return wait_for(look, seconds, f"the end of jobs {jobs}")


def _fields(line: str) -> dict[str, str]:
    """The fields of a line of `scontrol --oneliner show job`."""
    return dict(re.findall(r"(\S+?)=(\S*)", line))


def wait_for(look: Callable[[], Found | None], seconds: float, what: str) -> Found:
    """The first thing that `look` gives.

    Raises:
        TimeoutError: if there is none after so many seconds.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (found := look()) is not None:
            return found
        time.sleep(0.5)
    raise TimeoutError(f"not after {seconds} s: {what}")


@contextmanager
def slurm_cluster(*, grace_seconds: int) -> Iterator[Cluster]:
    """Start a Slurm, and end it with everything that runs in it.

    Raises:
        NoSlurm: if programs are missing, or it does not come up.
    """
    if missing := [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]:
        raise NoSlurm(
            f"{', '.join(missing)}: not installed (Debian: apt-get install slurmctld slurmd slurm-client munge)"
        )
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="slurm-")))  # sockets have short paths only
    started: list[subprocess.Popen[bytes]] = []
    try:
        _configure(cluster.folder, grace_seconds)
        for name, *options in _daemons(cluster.folder):
            with open(cluster.folder / f"{name}.out", "ab") as out:
                started.append(
                    subprocess.Popen([name, *options], env=cluster.environment, stdout=out, stderr=out, start_new_session=True)
                )  # fmt: skip
            if name == "munged":
                wait_for(lambda: (cluster.folder / "munge.socket").exists() or None, 10, "munged")
        wait_for(lambda: _all_idle(cluster), 30, "all nodes idle")
    except (OSError, RuntimeError, TimeoutError) as problem:
        logs = "\n".join(path.read_text(errors="replace")[-400:] for path in sorted(cluster.folder.glob("*.out")))
        _end(cluster, started)
        raise NoSlurm(f"Slurm does not come up here: {problem}\n{logs}") from None
    try:
        yield cluster
    finally:
        _end(cluster, started)


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _configure(folder: Path, grace_seconds: int) -> None:
    user, host = pwd.getpwuid(os.geteuid()).pw_name, socket.gethostname().split(".")[0]
    control, *ports = _free_ports(1 + len(NODES))
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    (folder / "state").mkdir()
    nodes = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4000 Gres=gpu:{len(FAKE_GPUS)}"
        for node, port in zip(NODES, ports, strict=True)
    ]
    lines = [
        "ClusterName=tooltune", f"SlurmctldHost={host}(127.0.0.1)", f"SlurmctldPort={control}",
        f"SlurmUser={user}", f"SlurmdUser={user}", "AuthType=auth/munge", f"AuthInfo=socket={folder}/munge.socket",
        f"StateSaveLocation={folder}/state", f"SlurmdSpoolDir={folder}/spool-%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid", f"SlurmdPidFile={folder}/slurmd-%n.pid",
        "ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none", "JobAcctGatherType=jobacct_gather/none", "MpiDefault=none",
        "SelectType=select/cons_tres", "SelectTypeParameters=CR_Core", "GresTypes=gpu",
        "SchedulerParameters=batch_sched_delay=0,bf_interval=1", "ReturnToService=2", "KillWait=30",
        "SlurmctldParameters=preempt_send_user_signal", "PreemptType=preempt/partition_prio", "PreemptMode=REQUEUE",
        *nodes,
        f"PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace_seconds}",
        "PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF",
    ]  # fmt: skip
    (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
    gpus = [f"NodeName={node} Name=gpu File={file}" for node in NODES for file in FAKE_GPUS]
    (folder / "gres.conf").write_text("\n".join(gpus) + "\n")
    told = subprocess.run(["slurmctld", "-V"], env={"PATH": _path()}, capture_output=True, text=True).stdout
    year = int(re.findall(r"\d+", told)[0])
    (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n" if year >= 23 else "CgroupAutomount=no\n")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _daemons(folder: Path) -> Iterator[list[str]]:
    munge = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
    files = [f"--{option}={folder / name}" for option, name in {**munge, "seed-file": "munged.seed"}.items()]
    yield ["munged", "--foreground", "--force", *files]
    yield ["slurmctld", "-D"]
    for node in NODES:
        yield ["slurmd", "-D", "-N", node]


def _all_idle(cluster: Cluster) -> bool | None:
    try:
        told = cluster.run("sinfo", "--noheader", "--Node", "--format=%N %T").split()
    except RuntimeError:  # the controller does not answer yet
        return None
    return True if set(told) == {*NODES, "idle"} else None


def _end(cluster: Cluster, started: list[subprocess.Popen[bytes]]) -> None:
    """End all processes that were started for this cluster, jobs and their steps included, and remove its folder."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in _processes_of(cluster):
            with _already_gone():
                os.kill(process, number)
        end = time.monotonic() + 5
        while time.monotonic() < end and _processes_of(cluster):
            for child in started:
                child.poll()  # or it stays as a zombie
            time.sleep(0.1)
    for child in started:
        child.wait()
    shutil.rmtree(cluster.folder, ignore_errors=True)


def _processes_of(cluster: Cluster) -> list[int]:
    """All processes with this cluster's configuration in their environment."""
    mark = f"SLURM_CONF={cluster.folder / 'slurm.conf'}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with _already_gone():
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


@contextmanager
def _already_gone() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return
