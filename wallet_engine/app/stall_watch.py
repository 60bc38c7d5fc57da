"""Tells when a journal process stands still: it waits for its disk where everything else waits too."""

import asyncio
import time
from typing import Final

from wallet_engine.telemetry.metrics import Metrics

TICK_S: Final = 1.0
#: A pause as long as a busy machine makes is no stall.
STALLED_S_MIN: Final = 1.0


class StallWatch:
    """Of one process. The metric is worked out when it is asked for, in a thread that goes on meanwhile."""

    def __init__(self, metrics: Metrics) -> None:
        self._ticked_s = time.monotonic()
        metrics.journal_disk_wait_seconds.set_function(self._stalled_s)

    def __repr__(self) -> str:
        return f"<StallWatch {self._stalled_s():.1f} s>"

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._ticked_s = time.monotonic()
            await asyncio.sleep(TICK_S)

    def _stalled_s(self) -> float:
        late_s = time.monotonic() - self._ticked_s - TICK_S
        return late_s if late_s > STALLED_S_MIN else 0.0
