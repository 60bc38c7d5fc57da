"""Keeps one shard served: recover, drain, and again from the start whenever anything breaks."""

import asyncio
from contextlib import suppress
from typing import Final

import hiredis

from wallet_engine.domain.errors import WalletError
from wallet_engine.engine.drain import GroupCommit, ShardDrain
from wallet_engine.journal.errors import Fork
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.recovery.recover import ShardRecovery
from wallet_engine.redis_store.connection import Connection
from wallet_engine.routing.directory import Directory
from wallet_engine.telemetry.logging import get_logger

RETRY_S_MIN: Final = 0.1
RETRY_S_MAX: Final = 1.0

log = get_logger(__name__)


class ShardKeeper:
    """One per shard in every journal process."""

    def __init__(self, shard: str, directory: Directory, writer: JournalWriter, commit: GroupCommit) -> None:
        self.shard = shard
        self._recovery = ShardRecovery(shard, directory, writer, commit)
        self._writer = writer
        self._commit = commit
        self._again = asyncio.Event()
        self._forked: set[int] = set()
        self._drain: ShardDrain | None = None

    def __repr__(self) -> str:
        return f"<ShardKeeper {self.shard} {self._drain or 'recovering'}>"

    def check(self) -> None:
        """Somebody says the shard does not serve, or the map changed: compare it with the journal again."""
        self._again.set()

    def written(self, partitions: list[int]) -> None:
        """A service has just appended to these partitions' streams."""
        if self._drain is not None:
            self._drain.written(partitions)

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
                reasons = [str(error) for error in leaves]
                self._forked.update(error.partition for error in leaves if isinstance(error, Fork))
            log.warning("shard not served", shard=self.shard, reasons=reasons, retry_s=delay_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._again.wait()
            delay_s = min(delay_s * 2, RETRY_S_MAX)

    async def _recover_and_drain(self) -> None:
        """Returns when `check` was called; raises when the shard broke."""
        primary, partitions = await self._recovery.run(self._forked)
        self._forked.clear()
        if not partitions:
            await self._again.wait()
            return
        drain = ShardDrain(self._commit, self._writer, partitions)
        reading = await Connection.open(primary.address, lambda _: None)
        trimming = await Connection.open(primary.address, lambda _: None)
        draining = asyncio.create_task(drain.run(reading, trimming), name=f"drain-{self.shard}")
        asked = asyncio.create_task(self._again.wait())
        self._drain = drain
        try:
            await asyncio.wait((draining, asked), return_when=asyncio.FIRST_COMPLETED)
            if draining.done():
                draining.result()
        finally:
            self._drain = None
            asked.cancel()
            draining.cancel()
            await asyncio.gather(draining, asked, return_exceptions=True)
            reading.close()
            trimming.close()


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
