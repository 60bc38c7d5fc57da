"""Reads the streams of one shard over its own connections, and trims entries that the journal copies have."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

import hiredis

from wallet_engine.domain.entry import parse_header
from wallet_engine.domain.errors import WalletError
from wallet_engine.drain.group_commit import GroupCommit, Taken, Unreadable
from wallet_engine.drain.witness import Witness
from wallet_engine.journal.chains import Position
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.errors import Fenced
from wallet_engine.journal.link_wire import NewEntry
from wallet_engine.redis_store.connection import Connection, Reply, pack
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.refusals import Meaning, is_of_data, refusal_of
from wallet_engine.redis_store.scripts import load_script
from wallet_engine.redis_store.stream import first_seq, from_stream, is_of_another_type, readable, unbroken

#: Maximum entries of one stream in one fetch.
FETCH_ENTRIES_MAX: Final = 64
_COUNT: Final = str(FETCH_ENTRIES_MAX)
TRIM_S: Final = 1.0
#: How often the partitions are told how long their windows have been in force (`witness`).
WITNESS_S: Final = 5.0
#: Partitions in one pipeline: each takes some 50 us of the node's time.
TRIM_PARTITIONS: Final = 16
#: A move freezes a partition for well under a second. One that is frozen for longer than this is not being moved.
MOVING_S_MAX: Final = 5.0

_TRIM: Final = load_script("trim").text
_WITNESS: Final = load_script("witness").text


class Abandoned(WalletError):
    """A partition was frozen for a move, but the move does not continue. The partition must be recovered."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"partition {partition} was frozen for a move that does not continue")
        self.partition = partition


class Gap(WalletError):
    """The stream begins after the entry that this copy needs next. Other copies have the entries in between."""

    def __init__(self, partition: int, seq: int) -> None:
        super().__init__(f"partition {partition}: entry {seq} is no longer in the stream")
        self.partition = partition


class ShardDrain:
    """Fetches new entries of one shard's partitions, which no service brings, from the shard's certified primary.

    Services bring the entries that they have just written, or name the partitions. A fetch asks for these partitions
    only. Entries of a service that died before it could do so are found when the streams are trimmed.

    Partitions may be added and dropped while it runs. A partition that the node does not have is dropped when
    `is_ours(partition)` says that it has moved away; otherwise the drain fails.
    """

    def __init__(
        self,
        commit: GroupCommit,
        copy: JournalCopy,
        keys: Mapping[int, PartitionKeys],
        epochs: Mapping[int, int],
        is_ours: Callable[[int], Awaitable[bool]],
        forget_seq: Callable[[int], int],
        on_gap: Callable[[Mapping[int, int], Callable[[int], None]], bool],
    ) -> None:
        """`forget_seq(partition)`: the seq up to which the copies do not need the stream any more.

        `on_gap(epochs, caught_up)` is called with partitions (and the epochs they are certified in) whose streams begin
        after the entry that this copy needs next. It fetches the missing entries from another copy, and then calls
        `caught_up(partition)`. It returns False when there is no other copy.
        """
        self._commit = commit
        self._writer = copy.writer
        self._forget_seq = forget_seq
        self._on_gap = on_gap
        self._keys = dict(keys)
        self._epochs = dict(epochs)
        #: Partitions that were at another epoch than the map's at the last look.
        self._doubted: set[int] = set()
        self._is_ours = is_ours
        #: Partition that is being moved -> when it was first seen frozen (loop time).
        self._frozen_s: dict[int, float] = {}
        self._written: set[int] = set()
        #: Partitions whose missing entries are being fetched from another copy. Their streams are not read meanwhile.
        self._behind: set[int] = set()
        #: Partition that was seen ahead of this disk -> its newest entry, until the next fetch.
        self._newest: dict[int, int] = {}
        self._witness = Witness()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<ShardDrain partitions={len(self._keys)} written={len(self._written)} behind={len(self._behind)}>"

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are drained now."""
        return frozenset(self._keys)

    def add(self, partition: int, keys: PartitionKeys, epoch: int) -> None:
        """Drain a partition that has moved here and is certified under this epoch of the map."""
        self._keys[partition] = keys
        self._epochs[partition] = epoch
        self.written((partition,))

    def raised(self, partition: int, epoch: int) -> None:
        """Take the new epoch of a partition that another copy has recovered."""
        self._epochs[partition] = epoch

    def drop(self, partition: int) -> None:
        """Drain a partition no longer: it has moved away."""
        self._keys.pop(partition, None)
        self._epochs.pop(partition, None)
        self._frozen_s.pop(partition, None)
        self._behind.discard(partition)
        self._witness.forget(partition)
        self._commit.lags(partition, 0)  # another drain has it now

    def written(self, partitions: Iterable[int]) -> None:
        """Fetch these partitions, which may have new entries. Those of other shards are ignored."""
        mine = (self._keys.keys() & partitions) - self._behind
        if mine:
            self._written |= mine
            self._wake.set()

    def new(self, entries: Iterable[NewEntry]) -> None:
        """Take entries that a service has just made. Those of other shards are ignored.

        Raises `Corruption` for columns that are no entry.
        """
        keys, behind = self._keys, self._behind
        mine = []
        for partition, header, columns in entries:
            if partition in keys and partition not in behind:
                payload = from_stream(header, columns)
                mine.append((partition, payload, parse_header(payload)))
        if mine:
            self._commit.bring(mine, self.written)

    def caught_up(self, partition: int) -> None:
        """Read the stream of a partition again: this copy has the entries that the stream had lost."""
        self._behind.discard(partition)
        self.written((partition,))

    async def run(self, fetching: Connection, trimming: Connection) -> None:
        """Drain until something fails, then raise its error: `ConnectionLost`, a Redis error, `Fork`, `Unconfirmed`,
        `Unreadable`, `Abandoned`, an error of the disk, or, when there is no other copy, `Gap`.
        """
        self.written(self._keys)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._drain(fetching))
            tasks.create_task(self._trim(trimming))
            tasks.create_task(self._see_time_pass(trimming))

    async def _drain(self, connection: Connection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            with self._commit.gathering():
                entries, unreadable = await self._fetch(connection)
                durable = self._commit.add(entries) if entries else None
            if durable is not None:
                try:
                    await durable
                except* Fenced as group:
                    # Entries of an older epoch: a recovery has taken them into its chain, which other copies have.
                    self._note_gaps(
                        [fenced.partition for fenced in group.exceptions if isinstance(fenced, Fenced)]
                    )
            if unreadable:
                raise ExceptionGroup("streams that cannot be read", unreadable)

    async def _fetch(self, connection: Connection) -> tuple[list[Taken], list[Unreadable]]:
        """The new entries of the partitions that were written to, and the partitions whose stream cannot be read."""
        written, self._written = sorted(self._written & self._keys.keys()), set()
        newest, self._newest = self._newest, {}
        durable_seq = self._writer.durable_seq
        starts = [f"{durable_seq(partition) + 1}-0".encode() for partition in written]
        commands = [
            pack(("XRANGE", self._keys[partition].journal, start, "+", "COUNT", _COUNT))
            for partition, start in zip(written, starts, strict=True)
        ]
        entries: list[Taken] = []
        unreadable: list[Unreadable] = []
        gaps: list[int] = []
        for partition, start, found in zip(written, starts, await connection.call_all(commands), strict=True):
            if is_of_another_type(found):
                unreadable.append(Unreadable(partition, str(found)))
                continue
            if isinstance(found, Exception):
                await self._missed(partition, found)
                continue
            entries_found, why = readable(found)
            if why:
                unreadable.append(Unreadable(partition, why))
            if (not found or found[0][0] != start) and self._is_gap(
                partition, found, newest.get(partition, 0)
            ):
                if not why:
                    gaps.append(partition)
                continue
            taken = unbroken(entries_found)
            entries += [(partition, entry.payload) for entry in taken]
            if why:
                continue
            if len(found) == FETCH_ENTRIES_MAX or len(taken) < len(found):
                self.written((partition,))
        if gaps:
            self._note_gaps(gaps)
        return entries, unreadable

    async def _missed(self, partition: int, error: Exception) -> None:
        """The node does not have the partition: drop it if it has moved away, else raise the error."""
        if not isinstance(error, hiredis.ReplyError | OSError) or await self._is_ours(partition):
            raise error
        self.drop(partition)

    def _is_gap(self, partition: int, found: Reply, newest: int) -> bool:
        """Whether the stream lacks the entry that this copy needs next.

        `found`: the fetched part of the stream. `newest`: the newest entry that the partition was seen to have.
        """
        seq = self._writer.durable_seq(partition) + 1
        return first_seq(found) > seq if found else newest >= seq

    def _note_gaps(self, partitions: Sequence[int]) -> None:
        """Have the missing entries fetched from another copy. Raises `Gap` when there is none."""
        epochs = {partition: self._epochs[partition] for partition in partitions if partition in self._keys}
        self._behind |= epochs.keys()
        if epochs and not self._on_gap(epochs, self.caught_up):
            raise Gap(partitions[0], self._writer.durable_seq(partitions[0]) + 1)

    async def _trim(self, connection: Connection) -> None:
        """Trim from the streams what the copies do not need any more, except open entries.

        It also notices a node that has lost writes, an epoch that is not the map's (then no service can write), and
        entries that no service has named.
        """
        while True:
            await asyncio.sleep(TRIM_S)
            partitions = list(self._keys)
            for some in range(0, len(partitions), TRIM_PARTITIONS):
                unfinished: Sequence[int] = partitions[some : some + TRIM_PARTITIONS]
                while unfinished:
                    unfinished = await self._trim_some(connection, unfinished)

    async def _trim_some(self, connection: Connection, partitions: Sequence[int]) -> list[int]:
        """Trim these partitions. Returns those with more to trim."""
        unfinished = []
        unreadable: list[Unreadable] = []
        durable = {p: self._writer.position(p) for p in partitions if p in self._keys}
        replies = await connection.call_all([self._trim_to(*at) for at in durable.items()])
        for (partition, at), trimmed in zip(durable.items(), replies, strict=True):
            if partition not in self._keys:
                continue  # it has moved away meanwhile
            try:
                if isinstance(trimmed, Exception):
                    if _reads_pass(trimmed):
                        self.written((partition,))  # its entries can still be fetched
                        continue
                    if is_of_data(trimmed):
                        unreadable.append(Unreadable(partition, str(trimmed)))
                        continue
                    raise trimmed
                if not trimmed:
                    raise OSError(f"partition {partition} in Redis does not agree with the journal")
                state, newest, epoch, more = trimmed
                self._note_epoch(partition, int(epoch or 0))
                newest = int(newest)
            except ValueError as error:
                unreadable.append(Unreadable(partition, f"its meta: {error}"))
            except (hiredis.ReplyError, OSError) as error:
                await self._missed(partition, error)
            else:
                self._note_frozen(partition, state == b"moving")
                self._note_newest(partition, newest, at.seq)
                if more:
                    unfinished.append(partition)
        if unreadable:
            raise ExceptionGroup("partitions that cannot be read", unreadable)
        return unfinished

    def _trim_to(self, partition: int, durable: Position) -> bytes:
        keys = self._keys[partition]
        names = (keys.meta, keys.journal, keys.open)
        forget_seq = min(durable.seq, self._forget_seq(partition))
        return pack(("EVAL", _TRIM, len(names), *names, durable.seq, durable.nonce, forget_seq))

    async def _see_time_pass(self, connection: Connection) -> None:
        """Tell the partitions how long their windows have been in force."""
        while True:
            partitions = list(self._keys)
            for some in range(0, len(partitions), TRIM_PARTITIONS):
                await self._witness_some(connection, partitions[some : some + TRIM_PARTITIONS])
            await asyncio.sleep(WITNESS_S)

    async def _witness_some(self, connection: Connection, partitions: Sequence[int]) -> None:
        now_s, asked = self._loop.time(), [p for p in partitions if p in self._keys]
        commands = [
            pack(("EVAL", _WITNESS, 1, self._keys[p].meta, *self._witness.word(p, now_s))) for p in asked
        ]
        unreadable: list[Unreadable] = []
        for partition, reply in zip(asked, await connection.call_all(commands), strict=True):
            if is_of_data(reply):
                unreadable.append(Unreadable(partition, str(reply)))
            elif type(reply) is list:  # else it is not live here; trimming looks into that
                try:
                    self._witness.saw(partition, *map(int, reply))
                except (TypeError, ValueError) as error:
                    unreadable.append(Unreadable(partition, f"its meta: {error}"))
        if unreadable:
            raise ExceptionGroup("partitions that cannot be read", unreadable)

    def _note_newest(self, partition: int, newest: int, durable_seq: int) -> None:
        self._commit.lags(partition, max(0, newest - durable_seq))
        if newest > self._writer.durable_seq(partition):
            self._newest[partition] = newest
            self.written((partition,))

    def _note_epoch(self, partition: int, epoch: int) -> None:
        """Raises OSError when the epoch is not the map's twice in a row: once may mean that a new map is on its way."""
        if epoch == self._epochs[partition]:
            self._doubted.discard(partition)
        elif partition in self._doubted:
            raise OSError(f"partition {partition} is at epoch {epoch}, and the map has another one")
        else:
            self._doubted.add(partition)

    def _note_frozen(self, partition: int, frozen: bool) -> None:
        """Raises `Abandoned` for a partition that has been frozen for longer than any move takes."""
        if not frozen:
            self._frozen_s.pop(partition, None)
        elif self._loop.time() - self._frozen_s.setdefault(partition, self._loop.time()) > MOVING_S_MAX:
            raise Abandoned(partition)


def _reads_pass(error: Exception) -> bool:
    """Whether the node refuses only writes. Then nothing is lost, and no recovery is needed."""
    if not isinstance(error, hiredis.ReplyError):
        return False
    refusal = refusal_of(str(error))
    return refusal.meaning is Meaning.RETRY and refusal.reads
