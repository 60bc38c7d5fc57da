"""Fetches entries from other copies that left the streams before this copy had them. Other work goes on.

One round fetches for all partitions that are behind, of any shard, and the next round follows at once. Each
round has to fetch only what was written during the previous one, until those entries are still in the streams
(`Fellows.forget_seq`). If no copy has the missing entries, it waits before it asks again.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from wallet_engine.domain.errors import WalletError, text_of
from wallet_engine.drain.group_commit import GroupCommit
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.recovery.catchup import follow
from wallet_engine.recovery.fellows import Fellows
from wallet_engine.telemetry.logging import get_logger

#: After a start of the process, the drains of all shards find out within this time that they are behind.
#: Waiting for all of them saves work: a round reads the other copy's segments from the oldest missing entry
#: on, for any partitions.
GATHER_S: Final = 0.05
#: Wait time when no copy that answers has the missing entries.
RETRY_S: Final = 0.5

log = get_logger(__name__)


class Returning:
    """One object per journal process. `run` does the work; drains report which partitions are behind."""

    def __init__(self, copy: JournalCopy, commit: GroupCommit, fellows: Fellows) -> None:
        self._copy = copy
        self._commit = commit
        self._fellows = fellows
        #: partition -> the epoch in which it is certified, and the callback for when it has caught up.
        self._behind: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Returning behind={len(self._behind)}>"

    def behind(self, epochs: Mapping[int, int], caught_up: Callable[[int], None]) -> bool:
        """The streams lack the next entries of these partitions. Returns False if there is no other copy."""
        if self._fellows.sole:
            return False
        self._behind |= {partition: (epoch, caught_up) for partition, epoch in epochs.items()}
        self._wake.set()
        return True

    async def run(self) -> None:
        """Fetch in rounds until cancelled."""
        await self._wake.wait()
        await asyncio.sleep(GATHER_S)
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._round()
            except (WalletError, OSError) as error:
                log.warning("waits to catch up", partitions=len(self._behind), reason=text_of(error))
                await asyncio.sleep(RETRY_S)
            else:
                if self._behind and not self._wake.is_set():  # no copy that answers has more
                    await asyncio.sleep(RETRY_S)
            if self._behind:
                self._wake.set()

    async def _round(self) -> None:
        copy = self._copy
        for partition, (epoch, _) in list(self._behind.items()):
            if copy.superseded(partition, epoch):  # it is being recovered: its drain starts again
                del self._behind[partition]
        if not self._behind:
            return
        behind = dict(self._behind)
        before = {partition: copy.writer.durable_seq(partition) for partition in behind}
        council = await self._fellows.council()
        epochs = {partition: epoch for partition, (epoch, _) in behind.items()}
        followed = await follow(copy, self._commit, self._fellows, council, epochs)
        # If no copy that answers follows its epoch, this copy's chain may have entries that are not in that epoch's.
        self._commit.follows({partition: epochs[partition] for partition in followed})
        for partition, known in behind.items():
            if (
                copy.writer.durable_seq(partition) > before[partition]
                and self._behind.get(partition) == known
            ):
                del self._behind[partition]
                known[1](partition)
