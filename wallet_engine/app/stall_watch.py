"""Measures how long a journal process stands still: it waits for its disk where everything else waits too."""

import asyncio
import time
from typing import Final

from wallet_engine.telemetry.metrics import Metrics

TICK_S: Final = 1.0
#: A busy machine makes pauses of this length; they do not count.
STALLED_S_MIN: Final = 1.0


class StallWatch:
    """For one process. The metric is computed when it is read, in a thread that runs during a stall."""

    def __init__(self, metrics: Metrics) -> None:
        self._ticked_s = time.monotonic()
        metrics.journal_disk_wait_seconds.set_function(self._stalled_s)

    def __repr__(self) -> str:
        return f"<StallWatch {self._stalled_s():.1f} s>"

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self._ticked_s = time.monotonic()
            await asyncio.sleep(TICK_S)

    def _stalled_s(self) -> float:
        late_s = time.monotonic() - self._ticked_s - TICK_S
        return late_s if late_s > STALLED_S_MIN else 0.0
