"""How fast the cores run while something is measured, as a part of the best they did.

A core of a virtual machine is often one of two threads of a real one. While a stranger uses the other thread it does
little more than half of its work, and neither steal nor the load average tells. So a process of its own times the same
short loop again and again (in CPU time, so that waiting for a turn does not count) and tells how it went.
That process is this file: for each line in it writes `<loops> <seconds in all> <seconds of the best>`.
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

#: Some 0.2 ms, of which there are few enough to cost under a hundredth of a core.
_TURNS: Final = 5_000
_EVERY_S: Final = 0.04


class Loops(NamedTuple):
    """Loops done until now, and the CPU seconds that all of them took, and the best.

    The best is what one in a hundred stays below: the clock of a virtual machine now and then leaves out a part of one.
    """

    done: int
    cpu_s: float
    best_s: float


def core_speed(before: Loops, after: Loops) -> float:
    """How much work the cores did between two readings, 1 being the best of all time; 0 when no loop was done."""
    if after.done == before.done:
        return 0.0
    return after.best_s * (after.done - before.done) / (after.cpu_s - before.cpu_s)


class Probe:
    """The process that does the loops; it ends with the one that has started it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # an interrupt from the keyboard is not for it
        )

    def read(self) -> Loops:
        """What it has done until now; takes less than a millisecond. Raises `ChildProcessError` when it has ended."""
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
        """End it: its exit status."""
        self._process.communicate()
        return self._process.returncode


@cache
def probe() -> Probe:
    """The one of this program, begun when it is first asked for: the longer it lives, the better it knows the best."""
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
