"""`wallet-admin` as its own process, which sends itself a signal when a move that it drives reaches a step.

python -m support.move_run SIGNAL NUMBER STEP PIDS VERB…

NUMBER is the number of the move in the run, from 1. PIDS, joined by commas, are killed right before the signal.
"""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.dev_process import DevCluster

from wallet_engine.admin.cli import main
from wallet_engine.admin.moving import runs
from wallet_engine.admin.moving.driver import Driver

RUN_S_MAX = 60.0


def signalled(
    cluster: DevCluster, name: str, number: int, step: str, *verb: str, others: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a changing verb of `wallet-admin`, which gets the signal at a step of its `number`-th move."""
    pids = ",".join(map(str, others))
    words = (name, str(number), step, pids, *verb, *cluster.coordination_flags(), "--yes")
    return subprocess.run(
        [sys.executable, "-m", "support.move_run", *words],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )


def run(signal_name: str, number: str, last_step: str, others: str, *argv: str) -> None:
    new_driver, numbers = runs.new_driver, itertools.count(1)

    def signalled(*words: Any, **hooks: Any) -> Driver:
        mine = str(next(numbers))

        def on_step(step: str) -> None:
            if (mine, step) == (number, last_step):
                for pid in filter(None, others.split(",")):
                    os.kill(int(pid), signal.SIGKILL)
                os.kill(os.getpid(), signal.Signals[signal_name])

        return new_driver(*words, on_step=on_step, **hooks)

    runs.new_driver = signalled
    # A shell that starts the tests in the background may set SIGINT to be ignored, and Python inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(list(argv))


if __name__ == "__main__":
    run(*sys.argv[1:])
