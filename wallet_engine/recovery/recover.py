"""Compares the partitions of one shard with the journal and makes them equal (design.md section 8).

The order of the steps is the safety argument. A partition is set `recovering` first, so nobody writes; it is made
equal to the journal; its epoch is raised in the directory, then in its meta together with the owner; and the
scripts that services call are loaded last of all, so a restarted process cannot serve by accident.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.errors import Corruption
from wallet_engine.engine.drain import GroupCommit, Taken
from wallet_engine.journal.errors import Fork
from wallet_engine.journal.reader import read
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.recovery.replay import Replayer
from wallet_engine.redis_store.connection import Connection, Word
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.scripts import load_script, service_scripts
from wallet_engine.redis_store.topology import NodeView, check_settings, find_primary
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.slots import slot_range, tag_of
from wallet_engine.telemetry.logging import get_logger

STREAM_READ_MAX: Final = 256
_CERTIFY: Final = load_script("certify").text
KEYS_PER_DROP_MAX: Final = 100

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Meta:
    """A partition's meta hash as Redis holds it; `state` is None when there is none."""

    seq: int
    nonce: str
    epoch: int
    owner: str
    state: str | None
    currencies: str

    @classmethod
    def parse(cls, values: list[bytes | None]) -> "Meta":
        seq, nonce, epoch, owner, state, currencies = ((value or b"").decode() for value in values)
        return cls(int(seq or 0), nonce, int(epoch or 0), owner, state or None, currencies)


class ShardRecovery:
    """One pass over one shard. Use `run`, then drain the partitions it returns."""

    def __init__(self, shard: str, directory: Directory, writer: JournalWriter, commit: GroupCommit) -> None:
        self._shard = shard
        self._directory = directory
        self._writer = writer
        self._commit = commit

    def __repr__(self) -> str:
        return f"<ShardRecovery {self._shard}>"

    async def run(self, forked: Set[int] = frozenset()) -> tuple[NodeView, dict[int, PartitionKeys]]:
        """The certified primary and the partitions it serves, all `live`.

        `forked` partitions are recovered whatever they look like.
        Raises OSError when no primary answers, `ConfigError` when a node is unfit, `Corruption` when the journal
        cannot be reproduced.
        """
        shards = await asyncio.to_thread(self._directory.shards)
        primary = await asyncio.to_thread(find_primary, shards[self._shard].nodes)
        if primary is None:
            raise OSError(f"shard {self._shard}: no primary answers")
        await asyncio.to_thread(check_settings, primary.address)
        async with _connected(primary.address) as connection:
            partitions = await self._partitions(primary)
            if not forked and not await self._uncertified(connection, primary, partitions):
                return primary, partitions
            async with self._locked():
                partitions = await self._partitions(primary)
                todo = {
                    *await self._uncertified(connection, primary, partitions),
                    *forked,
                } & partitions.keys()
                if todo:
                    await self._recover(connection, primary, {p: partitions[p] for p in sorted(todo)})
        return primary, partitions

    async def _partitions(self, primary: NodeView) -> dict[int, PartitionKeys]:
        """The shard's partitions by the map. Raises when Redis does not agree that this node owns their slots."""
        config = await asyncio.to_thread(self._directory.config)
        partition_map = await asyncio.to_thread(self._directory.partition_map)
        partitions = {}
        for partition in partition_map.partitions_of(self._shard):
            slot = slot_range(partition, config.partitions)[0]
            if not primary.owns(slot):
                raise OSError(
                    f"partition {partition}: {primary.address} does not own slot {slot} of {self._shard}"
                )
            partitions[partition] = PartitionKeys(tag_of(partition, config.partitions))
        return partitions

    async def _uncertified(
        self, connection: Connection, primary: NodeView, partitions: Mapping[int, PartitionKeys]
    ) -> list[int]:
        """Partitions that may not serve as they are; all of them when the scripts are not there."""
        loaded = await connection.call("SCRIPT", "EXISTS", *(script.sha for script in service_scripts()))
        if not all(loaded):
            return list(partitions)
        partition_map = await asyncio.to_thread(self._directory.partition_map)
        todo = []
        for partition, keys in partitions.items():
            meta = await _meta(connection, keys)
            position = self._writer.position(partition)
            if (
                meta.state != "live"
                or meta.owner != primary.node_id
                or meta.epoch != partition_map.epoch_of(partition)
                or meta.seq < position.seq
                or (meta.seq == position.seq and meta.nonce != position.nonce)
            ):
                todo.append(partition)
        return todo

    async def _recover(
        self, connection: Connection, primary: NodeView, partitions: Mapping[int, PartitionKeys]
    ) -> None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        log.info("recovering", shard=self._shard, node=primary.address, partitions=len(partitions))
        for keys in partitions.values():
            if (await _meta(connection, keys)).state is not None:
                await connection.call("HSET", keys.meta, "state", "recovering")
        replayers: dict[int, Replayer] = {}
        after: dict[int, int] = {}
        await connection.call("SCRIPT", "LOAD", load_script("apply", replay=True).text)
        for partition, keys in partitions.items():
            meta = await self._prepare(connection, partition, keys)
            if meta.seq != self._writer.position(partition).seq:
                replayers[partition] = Replayer(connection, partition, keys, meta.currencies)
                after[partition] = meta.seq
        await self._replay(replayers, after)
        for partition, keys in partitions.items():
            await self._restore_open_entries(connection, partition, keys)
            await self._compare(connection, partition, keys)
        await self._certify(connection, primary, partitions)
        operations = sum(replayer.operations for replayer in replayers.values())
        log.info(
            "recovered",
            shard=self._shard,
            partitions=len(partitions),
            replayed_operations=operations,
            seconds=round(loop.time() - started_s, 3),
        )

    async def _prepare(self, connection: Connection, partition: int, keys: PartitionKeys) -> Meta:
        """Leave the partition at a state the journal knows, with everything that only Redis knew drained."""
        meta = await _meta(connection, keys)
        position = self._writer.position(partition)
        if meta.state is not None and meta.seq > position.seq:
            try:
                await self._drain(connection, partition, keys)
            except Fork as fork:
                log.error("fork dropped", partition=partition, error=str(fork))
            else:
                self._check_no_gap(partition, meta.seq)
        if meta.state is not None and self._knows(partition, meta):
            return meta
        if meta.state is not None:
            log.warning("partition dropped", partition=partition, seq=meta.seq, journal_seq=position.seq)
        slot = await connection.call("CLUSTER", "KEYSLOT", keys.meta)
        while names := await connection.call("CLUSTER", "GETKEYSINSLOT", slot, KEYS_PER_DROP_MAX):
            await connection.call("UNLINK", *names)
        fresh: dict[str, Word] = {"seq": 0, "nonce": ZERO_NONCE, "epoch": 0, "owner": "", "clock": 0}
        fresh |= {"window": 1, "window_started": 0, "currencies": "", "state": "recovering"}
        await connection.call("HSET", keys.meta, *(word for pair in fresh.items() for word in pair))
        return Meta(0, ZERO_NONCE, 0, "", "recovering", "")

    def _knows(self, partition: int, meta: Meta) -> bool:
        if meta.seq == 0:
            return meta.nonce == ZERO_NONCE
        return self._writer.holds(partition, meta.seq, meta.nonce)

    async def _drain(self, connection: Connection, partition: int, keys: PartitionKeys) -> None:
        """Take over entries that continue the chain and that no journal copy has read yet."""
        while True:
            start = f"{self._writer.position(partition).seq + 1}-0"
            found = await connection.call("XRANGE", keys.journal, start, "+", "COUNT", STREAM_READ_MAX)
            if not found:
                return
            self._check_no_gap(partition, int(found[0][0].partition(b"-")[0]) - 1)
            entries: list[Taken] = [(partition, fields[1]) for _, fields in found]
            await self._commit.write(entries)

    def _check_no_gap(self, partition: int, seq: int) -> None:
        """Entries leave a stream only when they are on disk: if they are not on this one, this is not the journal."""
        position = self._writer.position(partition)
        if seq > position.seq:
            raise Corruption(
                f"partition {partition}: entries {position.seq + 1} to {seq} were on disk once and are not in "
                f"{self._writer.directory}: this is not the whole journal, and Redis is left as it is"
            )

    async def _replay(self, replayers: Mapping[int, Replayer], after: Mapping[int, int]) -> None:
        """One pass over the journal feeds every partition that is behind."""
        if not replayers:
            return
        loop = asyncio.get_running_loop()
        reported_s = loop.time()
        for record in self._records(replayers, after):
            await replayers[record.partition].replay(record.payload)
            if loop.time() - reported_s > 1.0:
                reported_s = loop.time()
                log.info(
                    "replaying", shard=self._shard, operations=sum(r.operations for r in replayers.values())
                )
        for replayer in replayers.values():
            await replayer.finish()

    def _records(self, partitions: Iterable[int], after: Mapping[int, int]) -> Iterable[Any]:
        return read(Path(self._writer.directory), partitions=set(partitions), after=after)

    async def _restore_open_entries(
        self, connection: Connection, partition: int, keys: PartitionKeys
    ) -> None:
        """Replay writes no stream; the sweeper needs the entries that are still open."""
        members = await connection.call("ZRANGE", keys.open, 0, -1)
        seqs = sorted(int(member) for member in members if b"." not in member)
        if not seqs:
            return
        present = await connection.call("XRANGE", keys.journal, f"{seqs[0]}-0", "+")
        missing = set(seqs) - {int(entry_id.partition(b"-")[0]) for entry_id, _ in present}
        if not missing:
            return
        # Stream ids only grow: write all of them anew, in order.
        await connection.call("DEL", keys.journal)
        for record in self._records({partition}, {partition: seqs[0] - 1}):
            seq = int(record.payload.partition(b" ")[0])
            if seq in seqs:
                await connection.call("XADD", keys.journal, f"{seq}-0", "e", record.payload)

    async def _compare(self, connection: Connection, partition: int, keys: PartitionKeys) -> None:
        meta = await _meta(connection, keys)
        position = self._writer.position(partition)
        if meta.seq != position.seq or (meta.seq and meta.nonce != position.nonce):
            raise Corruption(
                f"partition {partition} stands at {meta.seq} {meta.nonce} after recovery, "
                f"the journal at {position.seq} {position.nonce}"
            )

    async def _certify(
        self, connection: Connection, primary: NodeView, partitions: Mapping[int, PartitionKeys]
    ) -> None:
        raised = await asyncio.to_thread(self._directory.raise_epochs, list(partitions))
        for partition, keys in partitions.items():
            position = self._writer.position(partition)
            words = (position.seq, position.nonce or ZERO_NONCE, raised.epoch_of(partition), primary.node_id)
            if not await connection.call("EVAL", _CERTIFY, 1, keys.meta, *words):
                raise OSError(f"partition {partition} has changed while it was recovered")
        for script in service_scripts():
            await connection.call("SCRIPT", "LOAD", script.text)

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        lock = self._directory.lock(f"recovery-{self._shard}")
        await asyncio.to_thread(lock.__enter__)
        try:
            yield
        finally:
            await asyncio.to_thread(lock.__exit__, None, None, None)


async def _meta(connection: Connection, keys: PartitionKeys) -> Meta:
    fields = ("seq", "nonce", "epoch", "owner", "state", "currencies")
    return Meta.parse(await connection.call("HMGET", keys.meta, *fields))


@asynccontextmanager
async def _connected(address: str) -> AsyncIterator[Connection]:
    connection = await Connection.open(address, lambda _: None)
    try:
        yield connection
    finally:
        connection.close()
