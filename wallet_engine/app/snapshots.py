"""Has snapshots made beside the journal, in a process of their own, whenever enough was journaled since the last."""

import asyncio
import sys
from pathlib import Path
from typing import Final

from wallet_engine.app.archiver import run_in_group
from wallet_engine.app.gauging import gauged
from wallet_engine.app.troubles import Tell
from wallet_engine.journal.snapshots import bytes_since_made
from wallet_engine.recovery.snapshotting import NOT_NOW
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.metrics import Metrics

POLL_S: Final = 5.0
#: Pause after a failure, which the log explains.
RETRY_S: Final = 300.0

log = get_logger(__name__)


class SnapshotSchedule:
    """`bytes_between`: bytes journaled between two snapshots."""

    def __init__(
        self, journal: Path, bytes_between: int, metrics: Metrics, tell: Tell, restore_command: str | None
    ) -> None:
        """`tell` gets a text when snapshots fail, "" when they work again."""
        self._journal = journal
        self._bytes_between = bytes_between
        self._metrics = metrics
        self._tell = tell
        self._restore_command = restore_command

    def __repr__(self) -> str:
        return f"<SnapshotSchedule {self._journal} bytes_between={self._bytes_between}>"

    async def run(self) -> None:
        """Make snapshots until cancelled; then a snapshot in the making is given up."""
        async with gauged(self._look, POLL_S):
            await self._make()

    async def _look(self) -> int:
        since = await asyncio.to_thread(bytes_since_made, self._journal)
        self._metrics.journal_bytes_since_snapshot.set(since)
        return since

    async def _make(self) -> None:
        at_leisure = str(self._bytes_between // 2)
        command = [
            sys.executable,
            "-m",
            "wallet_engine.recovery.snapshotting",
            str(self._journal),
            at_leisure,
            *([self._restore_command] if self._restore_command else []),
        ]
        while True:
            if await self._look() >= self._bytes_between:
                failure = await self._run(command)
                if failure is not None:
                    self._tell(f"snapshots fail: {failure}" if failure else "")
                if failure:
                    log.warning("snapshots failed", why=failure, retry_s=RETRY_S)
                    await asyncio.sleep(RETRY_S)
            await asyncio.sleep(POLL_S)

    async def _run(self, command: list[str]) -> str | None:
        """Why it failed, "" when it did not; None when another process was in the way, and it is tried again soon."""
        try:
            status = await run_in_group(command)
        except OSError as error:  # it cannot be started now, for example for want of memory
            return str(error)
        if status == NOT_NOW:  # the other one may be of a journal that was killed
            return None
        return f"their process ended with status {status}" if status else ""
