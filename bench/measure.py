"""Measures the CPU of processes, steal, other load (from /proc, see proc(5)), and the speed of the cores."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.core_speed import Loops, core_speed, probe

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
#: Other processes are reported when they use at least this part of a core.
BUSY_CORES_MIN: Final = 0.02
BUSY_SHOWN_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class ProcessTimes:
    """From /proc/<pid>/stat: the name, CPU seconds (user and system, all threads), and the start in ticks."""

    name: str
    cpu_s: float
    started: int


@dataclass(frozen=True, slots=True)
class MachineTimes:
    """From the first line of /proc/stat, in ticks."""

    total: int
    idle: int
    steal: int

    @property
    def busy_s(self) -> float:
        """Seconds that all cores worked for processes of this machine."""
        return (self.total - self.idle - self.steal) / _TICKS_PER_S


def parse_process(stat: str) -> ProcessTimes:
    """Parse /proc/<pid>/stat. The name may contain blanks and brackets, so fields are counted from the last `)`."""
    head, _, tail = stat.rpartition(")")
    fields = tail.split()
    return ProcessTimes(
        head.partition("(")[2], (int(fields[11]) + int(fields[12])) / _TICKS_PER_S, int(fields[19])
    )


def parse_machine(stat: str) -> MachineTimes:
    """Parse /proc/stat: user nice system idle iowait irq softirq steal guest guest_nice; guest is part of user."""
    columns = [int(column) for column in stat.partition("\n")[0].split()[1:]]
    return MachineTimes(sum(columns[:8]), columns[3] + columns[4], columns[7])


def process_times(proc: Path = Path("/proc")) -> dict[int, ProcessTimes]:
    """Process id -> times of every process that exists now."""
    found = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = parse_process((entry / "stat").read_text("utf-8", "replace"))
            except OSError:
                continue  # it ended meanwhile
    return found


def shown(pid: int, name: str, proc: Path = Path("/proc")) -> str:
    """`"name (pid)"`; for `python -m MODULE` the name is the module."""
    try:
        words = (proc / str(pid) / "cmdline").read_text("utf-8", "replace").split("\0")
    except OSError:
        words = []
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    return f"{module or name} ({pid})"


@dataclass(frozen=True, slots=True)
class Moment:
    """The readings at one end of the measured part."""

    at_s: float
    processes: Mapping[int, ProcessTimes]
    machine: MachineTimes
    loops: Loops

    @classmethod
    def now(cls) -> "Moment":
        loops, machine = probe().read(), parse_machine(Path("/proc/stat").read_text("utf-8"))
        return cls(time.perf_counter(), process_times(), machine, loops)


@dataclass(frozen=True, slots=True)
class Usage:
    """The usage between two moments."""

    seconds: float
    #: Role -> CPU seconds of all its processes.
    cpu_s: Mapping[str, float]
    #: Percent of the time of all cores that the hypervisor gave to other machines.
    steal_percent: float
    #: Speed of the cores, as a part of the best that this program has seen.
    core_speed: float
    load_average: float
    #: Cores used by everything else, including the kernel and processes that have ended.
    other_cores: float
    #: Other busy processes that still run: text as `shown` gives it -> cores. The journal's snapshots are among them.
    others: Mapping[str, float]

    def circumstances(self) -> dict[str, object]:
        """The part of a row's document about the state of the machine."""
        return {
            "steal": self.steal_percent,
            "core_speed": self.core_speed,
            "load_average": self.load_average,
            "other_cores": self.other_cores,
            "other_processes_cores": dict(self.others),
        }


class ProcessReplaced(Exception):
    """A process of the cluster died during the measured part, so its CPU time is unknown."""


def usage(before: Moment, after: Moment, roles: Mapping[str, Iterable[int]]) -> Usage:
    """The usage between two moments. `roles`: role -> process ids of the run. Raises `ProcessReplaced`."""
    seconds = after.at_s - before.at_s
    cpu_s: dict[str, float] = {}
    ours: set[int] = set()
    for role, pids in roles.items():
        cpu_s[role] = 0.0
        for pid in pids:
            first, last = before.processes.get(pid), after.processes.get(pid)
            if first is None or last is None or first.started != last.started:
                raise ProcessReplaced(f"{role} process {pid} did not live through the measurement")
            cpu_s[role] += last.cpu_s - first.cpu_s
            ours.add(pid)
    others = {}
    for pid, last in after.processes.items():
        if pid in ours:
            continue
        first = before.processes.get(pid)
        same = first is not None and first.started == last.started
        cores = (last.cpu_s - (first.cpu_s if first is not None and same else 0.0)) / seconds
        if cores >= BUSY_CORES_MIN:
            others[shown(pid, last.name)] = round(cores, 2)
    busiest = sorted(others.items(), key=lambda item: -item[1])[:BUSY_SHOWN_MAX]
    ticks = after.machine.total - before.machine.total
    steal = 100 * (after.machine.steal - before.machine.steal) / ticks if ticks else 0.0
    busy_s = after.machine.busy_s - before.machine.busy_s
    return Usage(
        seconds=seconds,
        cpu_s=cpu_s,
        steal_percent=round(steal, 2),
        core_speed=round(core_speed(before.loops, after.loops), 2),
        load_average=round(os.getloadavg()[0], 2),
        other_cores=round(max(0.0, busy_s - sum(cpu_s.values())) / seconds, 2),
        others=dict(busiest),
    )
