"""CPU priority of a process where processes share cores."""

import contextlib
import os
import time
from pathlib import Path
from typing import Final

#: Niceness, as of `nice`: a tenth of the weight of a process of payments.
LOW_NICENESS: Final = 10
LEAST_NICENESS: Final = 19
SESSION_TRIES_MAX: Final = 20
SESSION_RETRY_S: Final = 0.1


def take_priority(name: str) -> None:
    """Set the priority of this process: `normal`, as others; `low`, behind them; `idle`, only on unused cores.

    `idle` is `SCHED_IDLE` (sched(7)): any process that wakes up gets the core at once, and beside processes that never
    rest an idle one stands still. Linux may share cores among sessions (autogroup, same page). Then both settings only
    count within a session, so a process that leads a session also sets the session's weight.
    """
    with contextlib.suppress(OSError):  # if the system forbids it, the priority stays normal
        if name == "low":
            os.nice(LOW_NICENESS)
        elif name == "idle":
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if name != "normal" and os.getsid(0) == os.getpid():
        _weigh_session(LOW_NICENESS if name == "low" else LEAST_NICENESS)


def _weigh_session(niceness: int) -> None:
    """Linux takes one such change per tenth of a second from all unprivileged processes together, so it is retried."""
    for _ in range(SESSION_TRIES_MAX):
        try:
            Path("/proc/self/autogroup").write_text(f"{niceness}", "ascii")
        except BlockingIOError:
            time.sleep(SESSION_RETRY_S)
        except OSError:
            return
        else:
            return
