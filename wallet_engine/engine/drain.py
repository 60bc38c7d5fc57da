"""From the streams of Redis to the disk: group commit and trimming of one journal copy.

Each shard is read by its own connection; what all of them bring while the disk is busy becomes the next group. A
group costs one fdatasync, and only then are its receipts published.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import hiredis

from wallet_engine.domain.entry import parse_header
from wallet_engine.domain.errors import WalletError
from wallet_engine.journal.errors import Fork
from wallet_engine.journal.receipts_server import ReceiptServer
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.redis_store.connection import Connection
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.scripts import load_script
from wallet_engine.telemetry.metrics import Metrics

#: Entries fetched from one stream at a time.
FETCH_ENTRIES_MAX: Final = 64
POLL_S: Final = 0.1
#: Under load a fetch waits so long for more partitions to fetch from: fewer and larger groups.
LINGER_S: Final = 0.001
#: Load is when the last group was durable less than this ago.
BUSY_S: Final = 0.005
TRIM_S: Final = 1.0
#: A partition stays frozen for a move's last entries for well under a second; after this long nobody moves it.
MOVING_S_MAX: Final = 5.0

_TRIM: Final = load_script("trim").text

#: One entry on its way to the disk.
Taken = tuple[int, bytes]


class Abandoned(WalletError):
    """Whoever froze the partition to move it has not come back: it must be recovered."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"partition {partition} was frozen for a move that does not go on")
        self.partition = partition


class GroupCommit:
    """Appends what the shards bring, one fdatasync per group, then publishes the receipts."""

    def __init__(self, writer: JournalWriter, server: ReceiptServer, metrics: Metrics) -> None:
        self._writer = writer
        self._server = server
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._group: list[tuple[Sequence[Taken], asyncio.Future[None]]] = []
        self.failed: asyncio.Future[None] = self._loop.create_future()

    async def write(self, entries: Sequence[Taken]) -> None:
        """Returns when all entries are durable and receipted. Raises `Fork` with nothing of the fork written."""
        done: asyncio.Future[None] = self._loop.create_future()
        if not self._group:
            self._loop.call_soon(self._commit)
        self._group.append((entries, done))
        await done

    def _commit(self) -> None:
        group, self._group = self._group, []
        receipts: list[tuple[int, str, int]] = []
        outcomes: list[tuple[asyncio.Future[None], Fork | None]] = []
        try:
            for entries, done in group:
                refused: Fork | None = None
                for partition, payload in entries:
                    header, _ = parse_header(payload)
                    try:
                        self._writer.append(partition, payload, header)
                    except Fork as fork:
                        refused = refused or fork
                    else:
                        receipts.append((partition, header.nonce, header.seq))
                outcomes.append((done, refused))
            started_s = self._loop.time()
            self._writer.sync()
        except Exception as error:
            # The disk failed: nothing of the group may be receipted, and the process must not go on writing.
            for _, done in group:
                if not done.done():
                    done.set_exception(error)
            if not self.failed.done():
                self.failed.set_exception(error)
            return
        self._metrics.journal_sync_seconds.observe(self._loop.time() - started_s)
        self._metrics.journal_entries.inc(len(receipts))
        self._server.publish(receipts)
        for done, refused in outcomes:
            if done.done():
                continue
            if refused is None:
                done.set_result(None)
            else:
                done.set_exception(refused)


class ShardDrain:
    """Fetches new entries of one shard's partitions from its certified primary.

    Services say which partitions they have just written to, so a fetch asks for those and no others; what a
    service that died could not say is found by asking for all of them every `POLL_S`.

    Partitions come and go while it runs. One that the node does not have is dropped when `is_ours(partition)`
    says that it has moved away; otherwise the drain fails.
    """

    def __init__(
        self,
        commit: GroupCommit,
        writer: JournalWriter,
        keys: Mapping[int, PartitionKeys],
        is_ours: Callable[[int], Awaitable[bool]],
    ) -> None:
        self._commit = commit
        self._writer = writer
        self._keys = dict(keys)
        self._is_ours = is_ours
        #: When each partition that is being moved was first seen frozen (loop time).
        self._frozen_s: dict[int, float] = {}
        self._written: set[int] = set()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<ShardDrain partitions={len(self._keys)} written={len(self._written)}>"

    @property
    def partitions(self) -> frozenset[int]:
        """What is drained now."""
        return frozenset(self._keys)

    def add(self, partition: int, keys: PartitionKeys) -> None:
        """A partition has moved here and is certified."""
        self._keys[partition] = keys
        self.written((partition,))

    def drop(self, partition: int) -> None:
        """A partition has moved away."""
        self._keys.pop(partition, None)
        self._frozen_s.pop(partition, None)

    def written(self, partitions: Iterable[int]) -> None:
        """These partitions may have new entries; others than this shard's are passed over."""
        mine = self._keys.keys() & partitions
        if mine:
            self._written |= mine
            self._wake.set()

    async def run(self, fetching: Connection, trimming: Connection) -> None:
        """Drain until something fails: `ConnectionLost`, a Redis error, `Fork`, or the disk."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._drain(fetching))
            tasks.create_task(self._trim(trimming))
            tasks.create_task(self._poll())

    async def _poll(self) -> None:
        while True:
            self.written(self._keys)
            await asyncio.sleep(POLL_S)

    async def _drain(self, connection: Connection) -> None:
        committed_s = 0.0
        while True:
            await self._wake.wait()
            if self._loop.time() - committed_s < BUSY_S:
                await asyncio.sleep(LINGER_S)
            self._wake.clear()
            written, self._written = sorted(self._written & self._keys.keys()), set()
            fetching = [self._fetch(connection, partition) for partition in written]
            fetched = await asyncio.gather(*fetching, return_exceptions=True)
            entries: list[Taken] = []
            for partition, found in zip(written, fetched, strict=True):
                if isinstance(found, BaseException):
                    await self._missed(partition, found)
                    continue
                entries += [(partition, fields[1]) for _, fields in found]
                if len(found) == FETCH_ENTRIES_MAX:
                    self.written((partition,))
            if entries:
                await self._commit.write(entries)
                committed_s = self._loop.time()

    def _fetch(self, connection: Connection, partition: int) -> asyncio.Future[Any]:
        first = self._writer.position(partition).seq + 1
        return connection.request(
            "XRANGE", self._keys[partition].journal, f"{first}-0", "+", "COUNT", FETCH_ENTRIES_MAX
        )

    async def _missed(self, partition: int, error: BaseException) -> None:
        """The node does not have the partition: let it go if it has moved away, else raise the error."""
        if not isinstance(error, hiredis.ReplyError | OSError) or await self._is_ours(partition):
            raise error
        self.drop(partition)

    async def _trim(self, connection: Connection) -> None:
        """Forget in Redis what is durable here, but nothing an open entry needs; notice a node that lost writes."""
        while True:
            await asyncio.sleep(TRIM_S)
            for partition, keys in list(self._keys.items()):
                names = (keys.meta, keys.journal, keys.open)
                durable = self._writer.position(partition)
                words = (durable.seq, durable.nonce)
                try:
                    trimmed = await connection.call("EVAL", _TRIM, len(names), *names, *words)
                    if not trimmed and partition in self._keys:
                        raise OSError(f"partition {partition} does not stand where the journal does")
                except (hiredis.ReplyError, OSError) as error:
                    await self._missed(partition, error)
                else:
                    self._note_frozen(partition, trimmed == 2)

    def _note_frozen(self, partition: int, frozen: bool) -> None:
        """Raises `Abandoned` for a partition that has been frozen for longer than any move takes."""
        if not frozen:
            self._frozen_s.pop(partition, None)
        elif self._loop.time() - self._frozen_s.setdefault(partition, self._loop.time()) > MOVING_S_MAX:
            raise Abandoned(partition)
