"""From the streams of Redis to the disk: group commit and trimming of one journal copy.

Each shard is read by its own connection; what all of them bring while the disk is busy becomes the next group. A
group costs one fdatasync, and only then are its receipts published.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import hiredis

from wallet_engine.domain.entry import EntryHeader, parse_header
from wallet_engine.domain.errors import WalletError
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.errors import Fork
from wallet_engine.journal.receipts_server import ReceiptServer
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


class Unconfirmed(WalletError):
    """Entries of a new epoch came in: they are durable, and receipted once the keeper has confirmed the epoch."""


class Gap(WalletError):
    """The stream begins behind the entry that this copy needs next: other copies have what is between."""

    def __init__(self, partition: int, seq: int) -> None:
        super().__init__(f"partition {partition}: entry {seq} is not in the stream any more")
        self.partition = partition


class GroupCommit:
    """Appends what the shards bring, one fdatasync per group, then publishes the receipts."""

    def __init__(self, copy: JournalCopy, server: ReceiptServer, metrics: Metrics) -> None:
        self._copy = copy
        self._writer = copy.writer
        self._server = server
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._group: list[tuple[Sequence[Taken], asyncio.Future[None]]] = []
        self.failed: asyncio.Future[None] = self._loop.create_future()

    async def write(self, entries: Sequence[Taken]) -> None:
        """Returns when all entries are durable and receipted.

        Raises `Fork` with nothing of the fork written, and `Unconfirmed` when some are durable and not receipted yet.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        if not self._group:
            self._loop.call_soon(self._commit)
        self._group.append((entries, done))
        await done

    def install(self, entries: Sequence[Taken]) -> None:
        """Make entries durable that were taken over from another copy, or from Redis by a recovery.

        They may be of epochs that were promised to be refused, and are not receipted before the next confirmation.
        Those that are here already are passed over. Raises `Fork`, and `Outage` when the disk fails.
        """
        headers = []
        try:
            for partition, payload in entries:
                header, _ = parse_header(payload)
                if not self._has(partition, header):
                    self._writer.append(partition, payload, header, bound=False)
                    headers.append((partition, header))
        finally:
            self.sync()
        for partition, header in headers:
            self._copy.withhold(partition, header)
        self._metrics.journal_entries.inc(len(headers))

    def sync(self) -> None:
        """Make durable what was appended to the writer; a failure ends the process."""
        try:
            self._sync()
        except Exception as error:
            if not self.failed.done():
                self.failed.set_exception(error)
            raise

    def lags(self, partition: int, entries: int) -> None:
        """So many entries of the partition are in Redis and not on this disk."""
        self._metrics.journal_lag_entries.labels(str(partition)).set(entries)

    def recovered(self, shard: str, result: str) -> None:
        """A shard was `certified`, or its recovery `failed`."""
        self._metrics.shard_recoveries.labels(shard, result).inc()

    def confirm(self, epochs: Iterable[tuple[int, int]]) -> None:
        """These (partition, epoch) are in force and followed here: receipt what was withheld."""
        self._server.confirmed(self._copy.confirm(epochs))

    def _has(self, partition: int, header: EntryHeader) -> bool:
        return self._writer.nonce_at(partition, header.seq) == header.nonce

    def _sync(self) -> None:
        before = self._writer.committed_bytes
        self._writer.sync()
        self._metrics.journal_bytes.inc(self._writer.committed_bytes - before)

    def _commit(self) -> None:
        group, self._group = self._group, []
        receipts: list[tuple[int, str, int]] = []
        written = 0
        outcomes: list[tuple[asyncio.Future[None], WalletError | None]] = []
        receiptable = self._copy.receiptable
        try:
            for entries, done in group:
                refused: WalletError | None = None
                for partition, payload in entries:
                    header, _ = parse_header(payload)
                    try:
                        self._writer.append(partition, payload, header)
                    except Fork as fork:
                        if not self._has(partition, header):  # it may have come from another copy meanwhile
                            refused = refused or fork
                    else:
                        written += 1
                        if receiptable(partition, header):
                            receipts.append((partition, header.nonce, header.seq))
                        else:
                            refused = refused or Unconfirmed(
                                f"partition {partition}: epoch {header.epoch} is new"
                            )
                outcomes.append((done, refused))
            started_s = self._loop.time()
            self._sync()
        except Exception as error:
            # The disk failed: nothing of the group may be receipted, and the process must not go on writing.
            for _, done in group:
                if not done.done():
                    done.set_exception(error)
            if not self.failed.done():
                self.failed.set_exception(error)
            return
        self._metrics.journal_sync_seconds.observe(self._loop.time() - started_s)
        self._metrics.journal_entries.inc(written)
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
        copy: JournalCopy,
        keys: Mapping[int, PartitionKeys],
        epochs: Mapping[int, int],
        is_ours: Callable[[int], Awaitable[bool]],
        quorum_seq: Callable[[int], int],
    ) -> None:
        """`quorum_seq(partition)`: up to where a quorum of the copies has the entries."""
        self._commit = commit
        self._writer = copy.writer
        self._quorum_seq = quorum_seq
        self._keys = dict(keys)
        self._epochs = dict(epochs)
        #: Partitions that were last seen at another epoch.
        self._doubted: set[int] = set()
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

    def add(self, partition: int, keys: PartitionKeys, epoch: int) -> None:
        """A partition has moved here and is certified, under this epoch of the map."""
        self._keys[partition] = keys
        self._epochs[partition] = epoch
        self.written((partition,))

    def raised(self, partition: int, epoch: int) -> None:
        """Another copy has recovered a partition."""
        self._epochs[partition] = epoch

    def drop(self, partition: int) -> None:
        """A partition has moved away."""
        self._keys.pop(partition, None)
        self._epochs.pop(partition, None)
        self._frozen_s.pop(partition, None)

    def written(self, partitions: Iterable[int]) -> None:
        """These partitions may have new entries; others than this shard's are passed over."""
        mine = self._keys.keys() & partitions
        if mine:
            self._written |= mine
            self._wake.set()

    async def run(self, fetching: Connection, trimming: Connection) -> None:
        """Drain until something fails: `ConnectionLost`, a Redis error, `Fork`, `Gap`, `Unconfirmed`, or the disk."""
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
                if found:
                    self._check_no_gap(partition, found[0][0])
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

    def _check_no_gap(self, partition: int, entry_id: bytes) -> None:
        seq = self._writer.position(partition).seq + 1
        if int(entry_id.partition(b"-")[0]) > seq:
            raise Gap(partition, seq)

    async def _trim(self, connection: Connection) -> None:
        """Forget in Redis what a quorum of copies has, but nothing an open entry needs.

        Notices a node that lost writes, an epoch that is not the map's (no service may write then), and that what
        comes next here is gone from the stream.
        """
        while True:
            await asyncio.sleep(TRIM_S)
            for partition, keys in list(self._keys.items()):
                names = (keys.meta, keys.journal, keys.open)
                durable = self._writer.position(partition)
                words = (durable.seq, durable.nonce, min(durable.seq, self._quorum_seq(partition)))
                try:
                    trimmed = await connection.call("EVAL", _TRIM, len(names), *names, *words)
                    if partition not in self._keys:
                        continue  # it has moved away meanwhile
                    if not trimmed:
                        raise OSError(f"partition {partition} does not stand where the journal does")
                    state, newest, epoch = trimmed
                    self._note_epoch(partition, int(epoch or 0))
                except (hiredis.ReplyError, OSError) as error:
                    await self._missed(partition, error)
                else:
                    self._note_frozen(partition, state == b"moving")
                    self._commit.lags(partition, max(0, int(newest) - durable.seq))
                    if int(newest) > durable.seq:
                        await self._look_for_gap(connection, partition, durable.seq)

    async def _look_for_gap(self, connection: Connection, partition: int, seq: int) -> None:
        keys = self._keys.get(partition)
        if keys is not None:
            found = await connection.call("XRANGE", keys.journal, f"{seq + 1}-0", "+", "COUNT", 1)
            if not found and self._writer.position(partition).seq == seq:
                raise Gap(partition, seq + 1)

    def _note_epoch(self, partition: int, epoch: int) -> None:
        """Raises OSError when it is not the map's for the second time: the news of a new map may be under way."""
        if epoch == self._epochs[partition]:
            self._doubted.discard(partition)
        elif partition in self._doubted:
            raise OSError(f"partition {partition} is at epoch {epoch}, and the map is not")
        else:
            self._doubted.add(partition)

    def _note_frozen(self, partition: int, frozen: bool) -> None:
        """Raises `Abandoned` for a partition that has been frozen for longer than any move takes."""
        if not frozen:
            self._frozen_s.pop(partition, None)
        elif self._loop.time() - self._frozen_s.setdefault(partition, self._loop.time()) > MOVING_S_MAX:
            raise Abandoned(partition)
