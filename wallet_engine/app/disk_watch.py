"""Reports when the disk of a journal will be full within a day at its present rate."""

import asyncio
import shutil
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from wallet_engine.app.troubles import Tell

POLL_S: Final = 60.0
#: The rate is measured over at most and at least so long; a shorter time says nothing about a day.
RATE_S_MAX: Final = 86_400.0
RATE_S_MIN: Final = 600.0
#: A disk that lasts longer is not reported.
LASTS_S_WARN: Final = 86_400.0
_GIGABYTE: Final = 1e9


class DiskWatch:
    """For the disk of one journal process."""

    def __init__(
        self,
        journal: Path,
        tell: Tell,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._tell = tell
        self._free_bytes = free_bytes
        self._now_s = now_s
        #: (time of the look, free bytes)
        self._looks: deque[tuple[float, int]] = deque()

    def __repr__(self) -> str:
        return f"<DiskWatch {self._journal} looks={len(self._looks)}>"

    async def run(self) -> None:
        """Look regularly, until cancelled. Raises `OSError`."""
        while True:
            self.look()
            await asyncio.sleep(POLL_S)

    def look(self) -> None:
        """Look once and report. Raises `OSError`."""
        now_s, free = self._now_s(), self._free_bytes(self._journal)
        self._looks.append((now_s, free))
        while now_s - self._looks[0][0] > RATE_S_MAX:
            self._looks.popleft()
        since_s, free_then = self._looks[0]
        elapsed_s, filled = now_s - since_s, free_then - free
        if elapsed_s < RATE_S_MIN or filled <= 0:
            self._tell("")
            return
        lasts_s = free * elapsed_s / filled
        self._tell(
            f"disk: {free / _GIGABYTE:.1f} GB are free, which last {lasts_s / 3600:.1f} h at the rate of the last "
            f"{elapsed_s / 3600:.1f} h"
            if lasts_s < LASTS_S_WARN
            else ""
        )
