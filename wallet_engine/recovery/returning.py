"""Fetches from other copies the entries that left the streams before this copy had them, while everything else goes on.

One round fetches for all partitions that are behind, of any shard, and the next round follows at once. Each brings only
the entries of the round before, until those are still in the streams (`Fellows.forget_seq`). If no copy has the missing
entries, it waits a while before it asks again.
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

#: Within this time of the first, the drains of all shards see that they are behind, when the process has just started:
#: a round reads the other copy's segments from the oldest entry that is missing, whichever partitions it is for.
GATHER_S: Final = 0.05
#: When nobody who answers has what is missing.
RETRY_S: Final = 0.5

log = get_logger(__name__)


class Returning:
    """Of one journal process. `run` does the work; drains say what is behind."""

    def __init__(self, copy: JournalCopy, commit: GroupCommit, fellows: Fellows) -> None:
        self._copy = copy
        self._commit = commit
        self._fellows = fellows
        #: partition -> the epoch in which it is certified, and whom to tell when it has caught up.
        self._behind: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Returning behind={len(self._behind)}>"

    def behind(self, epochs: Mapping[int, int], caught_up: Callable[[int], None]) -> bool:
        """What comes next of these partitions is not in their streams. False when there is no other copy to ask."""
        if self._fellows.sole:
            return False
        self._behind |= {partition: (epoch, caught_up) for partition, epoch in epochs.items()}
        self._wake.set()
        return True

    async def run(self) -> None:
        """Until cancelled."""
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
                if self._behind and not self._wake.is_set():  # nobody who answers has more
                    await asyncio.sleep(RETRY_S)
            if self._behind:
                self._wake.set()

    async def _round(self) -> None:
        copy = self._copy
        for partition, (epoch, _) in list(self._behind.items()):
            if copy.superseded(partition, epoch):  # it is recovered: its drain begins anew
                del self._behind[partition]
        if not self._behind:
            return
        behind = dict(self._behind)
        before = {partition: copy.writer.durable_seq(partition) for partition in behind}
        council = await self._fellows.council()
        epochs = {partition: epoch for partition, (epoch, _) in behind.items()}
        await follow(copy, self._commit, self._fellows, council, epochs)
        self._commit.follows(epochs)
        for partition, known in behind.items():
            if (
                copy.writer.durable_seq(partition) > before[partition]
                and self._behind.get(partition) == known
            ):
                del self._behind[partition]
                known[1](partition)
