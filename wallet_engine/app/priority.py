"""Whose turn comes first where processes share cores."""

import contextlib
import os
import time
from pathlib import Path
from typing import Final

#: As `nice` has it: a tenth of the weight of a process of payments.
LOW_NICENESS: Final = 10
LEAST_NICENESS: Final = 19
SESSION_TRIES_MAX: Final = 20
SESSION_RETRY_S: Final = 0.1


def take_priority(name: str) -> None:
    """Have this process run as `normal`, `low` or `idle` says: next to others, behind them, or on what they leave.

    `idle` is `SCHED_IDLE` (sched(7)): any process that wakes up takes the core at once, and beside processes that never
    rest it stands still. Linux may share cores among sessions (autogroup, the same page): then both count within a
    session only, so a process that leads one gives the session the weight that it has itself.
    """
    with contextlib.suppress(OSError):  # where the system forbids it, it is as the others are
        if name == "low":
            os.nice(LOW_NICENESS)
        elif name == "idle":
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if name != "normal" and os.getsid(0) == os.getpid():
        _weigh_session(LOW_NICENESS if name == "low" else LEAST_NICENESS)


def _weigh_session(niceness: int) -> None:
    """Linux takes one such change of all unprivileged processes in a tenth of a second: it is tried for a while."""
    for _ in range(SESSION_TRIES_MAX):
        try:
            Path("/proc/self/autogroup").write_text(f"{niceness}", "ascii")
        except BlockingIOError:
            time.sleep(SESSION_RETRY_S)
        except OSError:
            return
        else:
            return
