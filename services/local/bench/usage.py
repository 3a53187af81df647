"""What processes use, from /proc: CPU time of a whole family, memory of one process, the machine's own time."""

import math
import os
import platform
import resource
import time
from dataclasses import dataclass
from pathlib import Path

LOOK_EVERY_S = 0.1

_TICKS = os.sysconf("SC_CLK_TCK")
_PARENT, _USER, _SYSTEM, _CHILDREN_USER, _CHILDREN_SYSTEM = 1, 11, 12, 13, 14  # fields of stat behind the name
_IDLE, _IO_WAIT = 3, 4  # of the first line of /proc/stat


@dataclass(frozen=True, slots=True)
class Family:
    """A process and everything it has started, for counting its CPU time. `pid` None: it runs on another machine."""

    pid: int | None

    def cpu_s(self) -> float | None:
        """Return the seconds of CPU used so far, by children that have ended too; None where it cannot be known."""
        if self.pid is None:
            return None
        stats = _all_stats()
        if self.pid not in stats:
            return None
        return sum(_own(stats[pid]) + _ended_children(stats[pid]) for pid in _descendants(self.pid, stats))


@dataclass(frozen=True, slots=True)
class Crew:
    """Several processes that do one job."""

    members: tuple[Family, ...]

    def cpu_s(self) -> float | None:
        """Return the seconds of CPU all of them have used; None where it cannot be known of one."""
        used = [member.cpu_s() for member in self.members]
        return None if None in used else sum(each for each in used if each is not None)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of one process, MiB."""

    now_mib: float
    peak_mib: float


def memory(pid: int) -> Memory:
    """Return what a process has in memory now and had at most. Raises `OSError` when it is gone."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    if "VmRSS" not in fields:
        raise ProcessLookupError(f"process {pid} has ended")  # and nobody has asked how
    return Memory(*(round(int(fields[name].split()[0]) / 1024, 1) for name in ("VmRSS", "VmHWM")))


def machine_busy_s() -> float:
    """Return the seconds of CPU that everything on this machine has used since it started."""
    ticks = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[_IDLE] - ticks[_IO_WAIT]) / _TICKS


def parent_of(pid: int) -> int | None:
    """Return the parent of a process of this machine; None when there is none of that number."""
    fields = _all_stats().get(pid)
    return None if fields is None else int(fields[_PARENT])


def name_of(pid: int) -> str:
    """Return the short name of a process, "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@dataclass(slots=True)
class Unread:
    """What has been sent to IPv4 connections of a port of ours and not been read yet."""

    port: int
    _looked_at: float = -math.inf
    _bytes: int = 0

    def bytes(self) -> int:
        """Return how many bytes it was at most a tenth of a second ago: looking takes the kernel milliseconds."""
        now = time.monotonic()
        if now - self._looked_at > LOOK_EVERY_S:
            self._looked_at, self._bytes = now, unread_bytes(self.port)
        return self._bytes


def unread_bytes(port: int) -> int:
    """Return how many bytes have been sent to IPv4 connections of a port of ours and not been read."""
    unread = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote, queues = fields[1], fields[2], fields[4].split(":")
        if int(local.rpartition(":")[2], 16) == port:
            unread += int(queues[1], 16)  # arrived, and not read
        elif int(remote.rpartition(":")[2], 16) == port:
            unread += int(queues[0], 16)  # on the way
    return unread


def open_files() -> int:
    """Return how many files a process of ours may have open at most."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def allow_files(wanted: int) -> None:
    """Let this process have so many files open, as far as the machine lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, hard)), hard))


def cores() -> int:
    """Return how many cores we may use."""
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, object]:
    """Return what ran the bench."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    total_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": model,
        "cores": cores(),
        "memory_mib": total_kib // 1024,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _all_stats() -> dict[int, list[str]]:
    """By process, the fields of its stat file behind its name."""
    stats = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stats[int(folder.name)] = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
    return stats


def _descendants(pid: int, stats: dict[int, list[str]]) -> list[int]:
    family = [pid]
    for member in family:  # grows while we look
        family.extend(child for child, fields in stats.items() if int(fields[_PARENT]) == member)
    return family


def _own(fields: list[str]) -> float:
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS


def _ended_children(fields: list[str]) -> float:
    return (int(fields[_CHILDREN_USER]) + int(fields[_CHILDREN_SYSTEM])) / _TICKS
