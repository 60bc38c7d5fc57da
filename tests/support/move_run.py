"""A run that drives a move and is killed at one step, as its own process.

python -m support.move_run ZOOKEEPER PARTITION SOURCE TARGET STEP
"""

import os
import signal
import sys

from wallet_engine.admin.moving.driver import Driver
from wallet_engine.routing.directory import open_directory


def main(zookeeper: str, partition: str, source: str, target: str, last_step: str) -> None:
    def on_step(step: str) -> None:
        if step == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    directory = open_directory(zookeeper, None)
    Driver(directory, int(partition), f"killed-{os.getpid()}", "test", on_step=on_step).begin(source, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
