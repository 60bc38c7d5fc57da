"""Keeps one shard served: it recovers and drains it, and starts again whenever something breaks."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Final

import hiredis

from wallet_engine.domain.errors import NewerFormat, WalletError, text_of
from wallet_engine.drain.group_commit import GroupCommit, Unconfirmed, Unreadable
from wallet_engine.drain.shard_drain import Abandoned, Gap, ShardDrain
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.errors import Fork
from wallet_engine.journal.link_wire import NewEntry
from wallet_engine.recovery.fellows import Fellows
from wallet_engine.recovery.recover import REFUSED_LOGGED_MAX, Certified, ShardRecovery
from wallet_engine.recovery.refused import refusal_told
from wallet_engine.recovery.returning import Returning
from wallet_engine.redis_store.connection import Connection
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import PartitionMap
from wallet_engine.routing.slots import tag_of
from wallet_engine.telemetry.logging import get_logger

RETRY_S_MIN: Final = 0.1
RETRY_S_MAX: Final = 1.0
#: How often a shard without partitions is checked: its scripts must be loaded when one moves to it.
IDLE_S: Final = 2.0
#: How often a node is asked whether it got back a slot that an operator took away, or whether a partition that is
#: stopped or refused is to be recovered.
AWAY_S: Final = 1.0
#: How soon a refused partition is tried again, if it stays as it is. Each attempt interrupts the shard for a moment.
REFUSED_S: Final = 10.0
#: Maximum time of a move from the change of the map until the partition is live here.
ADOPTION_S_MAX: Final = 1.0
_ADOPTION_POLL_S: Final = 0.005

log = get_logger(__name__)


class ShardKeeper:
    """One per shard in every journal process."""

    def __init__(
        self,
        shard: str,
        directory: Directory,
        copy: JournalCopy,
        commit: GroupCommit,
        fellows: Fellows,
        returning: Returning,
        tell: Callable[[int, str], None] = lambda partition, why: None,
    ) -> None:
        """`tell` gets each partition with why it is refused, or with "" when it is not."""
        self.shard = shard
        self._directory = directory
        self._recovery = ShardRecovery(shard, directory, copy, commit, fellows)
        self._copy = copy
        self._fellows = fellows
        self._returning = returning
        self._tell = tell
        self._commit = commit
        self._again = asyncio.Event()
        self._suspects: set[int] = set()
        self._behind: set[int] = set()
        self._drain: ShardDrain | None = None
        self._map: PartitionMap | None = None
        self._map_news = asyncio.Event()

    def __repr__(self) -> str:
        return f"<ShardKeeper {self.shard} {self._drain or 'recovering'}>"

    def check(self) -> None:
        """Compare the shard with the journal again, because a report says that it does not serve."""
        self._again.set()

    def map_changed(self, partition_map: PartitionMap) -> None:
        """Partitions may have come or gone."""
        self._map = partition_map
        self._map_news.set()

    def promised(self, partitions: Iterable[int]) -> None:
        """Another copy recovers these partitions: check the shard again."""
        if self._drain is not None and self._drain.partitions.intersection(partitions):
            self.check()

    def written(self, partitions: Iterable[int]) -> None:
        """A service has just appended to these partitions' streams."""
        if self._drain is not None:
            self._drain.written(partitions)

    def new(self, entries: Sequence[NewEntry]) -> None:
        """A service sends the entries it has just appended to streams, of this shard and of others."""
        if self._drain is not None:
            self._drain.new(entries)

    async def run(self) -> None:
        delay_s = RETRY_S_MIN
        while True:
            self._again.clear()
            try:
                await self._recover_and_drain()
                delay_s = RETRY_S_MIN
                continue
            except* (WalletError, hiredis.ReplyError, OSError, TimeoutError) as failures:
                leaves = _leaves(failures)
                reasons = [text_of(error) for error in leaves]
                newer = next((error for error in leaves if isinstance(error, NewerFormat)), None)
                confirm_only = all(isinstance(error, Unconfirmed) for error in leaves)
                for error in leaves:
                    if isinstance(error, Gap):
                        self._behind.add(error.partition)
                    elif isinstance(error, Fork | Abandoned | Unreadable):
                        self._suspects.add(error.partition)
            if newer is not None:  # repeated attempts would disturb the copies that can read it
                raise newer
            if confirm_only:
                continue
            self._commit.recovered(self.shard, "failed")
            log.warning("shard not served", shard=self.shard, reasons=reasons, retry_s=delay_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._again.wait()
            delay_s = min(delay_s * 2, RETRY_S_MAX)

    async def _recover_and_drain(self) -> None:
        """Returns when `check` was called or there is nothing to drain; raises when the shard broke."""
        found = await self._recovery.run(self._suspects, self._behind)
        self._commit.recovered(self.shard, "failed" if found.refused else "certified")
        self._suspects.clear()
        self._behind.clear()
        self._tell_refusals(found.partitions)
        epochs = {partition: found.map.epoch_of(partition) for partition in found.partitions}
        drain = ShardDrain(
            self._commit,
            self._copy,
            found.partitions,
            epochs,
            self._is_ours,
            self._fellows.forget_seq,
            self._returning.behind,
        )
        reading = await Connection.open(found.primary.address, lambda _: None)
        try:
            trimming = await Connection.open(found.primary.address, lambda _: None)
        except BaseException:  # for example when the node takes no further connections
            reading.close()
            raise
        tasks = [
            asyncio.create_task(drain.run(reading, trimming), name=f"drain-{self.shard}"),
            asyncio.create_task(self._follow_map(drain, found, trimming), name=f"map-{self.shard}"),
            asyncio.create_task(self._again.wait()),
        ]
        if found.away:
            tasks.append(asyncio.create_task(self._come_back(found), name=f"away-{self.shard}"))
        if found.stopped:
            tasks.append(asyncio.create_task(self._mended(found, trimming), name=f"stopped-{self.shard}"))
        if found.refused:
            tasks.append(asyncio.create_task(self._allowed(found, trimming), name=f"refused-{self.shard}"))
        self._drain = drain
        try:
            while not any(task.done() for task in tasks):
                # With refused partitions, `_allowed` decides when to begin again.
                idle_s = None if drain.partitions or found.refused else IDLE_S
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=idle_s)
                if not done and not drain.partitions:
                    return
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            self._drain = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            reading.close()
            trimming.close()

    def _tell_refusals(self, served: Iterable[int]) -> None:
        for partition in served:
            self._tell(partition, "")
        for partition, why in islice(sorted(self._recovery.refusals.items()), REFUSED_LOGGED_MAX):
            self._tell(partition, refusal_told(partition, why))

    async def _follow_map(self, drain: ShardDrain, found: Certified, connection: Connection) -> None:
        """Adopt partitions that move here and drop those that move away.

        Returns when a recovery is needed.
        """
        while True:
            await self._map_news.wait()
            self._map_news.clear()
            known, new = found.map, self._map
            if new is None or new.version == known.version or not new.supersedes(known):
                continue
            mapped = frozenset(new.partitions_of(self.shard))
            found = replace(
                found,
                map=new,
                away=found.away & mapped,
                stopped=found.stopped & mapped,
                refused=found.refused & mapped,
            )
            for partition in drain.partitions - mapped:
                drain.drop(partition)
                log.info("partition moved away", shard=self.shard, partition=partition)
            for partition in sorted(drain.partitions):
                if new.epoch_of(partition) > known.epoch_of(partition):
                    if not await self._recovery.certified(connection, found, partition):
                        return  # the map was restored, or another process recovers it
                    drain.raised(partition, new.epoch_of(partition))
            for partition in sorted(mapped - drain.partitions - found.away - found.stopped - found.refused):
                if not await self._adopt(found, partition, connection):
                    return
                keys = PartitionKeys(tag_of(partition, len(new.partitions)))
                drain.add(partition, keys, new.epoch_of(partition))
                log.info("partition moved here", shard=self.shard, partition=partition)

    async def _come_back(self, found: Certified) -> None:
        """Returns when the slot of an unserved partition is back where the map says."""
        while not await self._recovery.came_back(found):
            await asyncio.sleep(AWAY_S)

    async def _mended(self, found: Certified, connection: Connection) -> None:
        """Returns when a stopped partition is to be recovered again."""
        while not await self._recovery.mended(connection, found):
            await asyncio.sleep(AWAY_S)

    async def _allowed(self, found: Certified, connection: Connection) -> None:
        """Returns when refused partitions are to be tried again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(REFUSED_S):
                while not await self._recovery.changed(connection, found):
                    await asyncio.sleep(AWAY_S)
        self._recovery.allow_refused()

    async def _adopt(self, found: Certified, partition: int, connection: Connection) -> bool:
        """Whether a partition that the map puts here becomes live within `ADOPTION_S_MAX`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ADOPTION_S_MAX):
                while True:
                    with suppress(hiredis.ReplyError):  # MOVED, until the node has taken the slot
                        if await self._recovery.certified(connection, found, partition):
                            await self._recovery.admit(connection, found, (partition,))
                            return True
                    await asyncio.sleep(_ADOPTION_POLL_S)
        return False

    async def _is_ours(self, partition: int) -> bool:
        partition_map = await asyncio.to_thread(self._directory.partition_map)
        return partition_map.shard_of(partition) == self.shard


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
