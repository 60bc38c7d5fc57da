"""Measures how fast the cores run during a measurement, relative to their best.

A core of a virtual machine is often one of two threads of a real core. While another machine uses the other thread, the
core does little more than half of its work. Neither steal nor the load average shows that. So a separate process times
the same short loop again and again, in CPU time: waiting for the core does not count.

That process runs this file. For each line on its input it writes `<loops> <seconds of all> <seconds of the best>`.
"""

import atexit
import select
import subprocess
import sys
import time
from bisect import insort
from contextlib import suppress
from functools import cache
from typing import Final, NamedTuple

#: A loop takes some 0.2 ms, and runs every 40 ms: together less than a hundredth of a core.
_TURNS: Final = 5_000
_EVERY_S: Final = 0.04


class Loops(NamedTuple):
    """The loops until now, the CPU seconds of all of them, and those of the best.

    The best is the first percentile and not the minimum: a virtual machine's clock sometimes skips a part of a loop.
    """

    done: int
    cpu_s: float
    best_s: float


def core_speed(before: Loops, after: Loops) -> float:
    """The speed of the cores between two readings: 1 is the best of all time. 0 when no loop was done."""
    if after.done == before.done:
        return 0.0
    return after.best_s * (after.done - before.done) / (after.cpu_s - before.cpu_s)


class Probe:
    """The process that runs the loops. It ends with the process that started it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C must not reach it
        )

    def read(self) -> Loops:
        """Read its figures, in less than a millisecond. Raises `ChildProcessError` when the process has ended."""
        asked, told = self._process.stdin, self._process.stdout
        assert asked is not None
        assert told is not None
        with suppress(BrokenPipeError):
            asked.write(b"\n")
            asked.flush()
        answer = told.readline().split()
        if not answer:
            raise ChildProcessError("the process that times the cores has ended")
        return Loops(int(answer[0]), float(answer[1]), float(answer[2]))

    def close(self) -> int:
        """End the process. Returns its exit status."""
        self._process.communicate()
        return self._process.returncode


@cache
def probe() -> Probe:
    """The probe of this program, started at the first call. The longer it runs, the better it knows the best speed."""
    started = Probe()
    atexit.register(started.close)
    return started


def _loop() -> float:
    began_s = time.thread_time()
    total = 0
    for turn in range(_TURNS):
        total += turn & 7
    return time.thread_time() - began_s


def _serve() -> None:
    cpu_s = _loop()
    ascending = [cpu_s]
    due_s = time.monotonic()
    while True:
        asked, _, _ = select.select([sys.stdin], [], [], max(0.0, due_s - time.monotonic()))
        if asked:
            if not sys.stdin.readline():
                return
            print(len(ascending), cpu_s, ascending[len(ascending) // 100], flush=True)
        if time.monotonic() >= due_s:
            took_s = _loop()
            cpu_s += took_s
            insort(ascending, took_s)
            due_s = time.monotonic() + _EVERY_S


if __name__ == "__main__":
    _serve()
