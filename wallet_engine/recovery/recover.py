"""Compares the partitions of one shard with the journal and makes them equal.

The order of the steps makes it safe. First the partition is set `recovering`, so no service writes. Then it
is made equal to the journal; its epoch is raised in the directory, then in its meta together with the owner.
The scripts that services call are loaded last, so a restarted process cannot serve by accident.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import hiredis
from redis.exceptions import RedisError

from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.errors import Corruption, NewerFormat, text_of
from wallet_engine.domain.memory import FORM
from wallet_engine.drain.group_commit import GroupCommit
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.errors import Fork
from wallet_engine.journal.reader import Record, in_pages, read
from wallet_engine.recovery.ballot import Ballot
from wallet_engine.recovery.catchup import follow
from wallet_engine.recovery.fellows import Council, Fellows
from wallet_engine.recovery.hands import AWAY, Hands, Overtaken
from wallet_engine.recovery.replay import Replayer
from wallet_engine.recovery.snapshot_load import SnapshotLoader, newest_snapshot
from wallet_engine.redis_store.connection import Connection, Word, pack
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.open_members import OpenMembers
from wallet_engine.redis_store.scripts import load_script, service_scripts
from wallet_engine.redis_store.slots_owner import give_slots
from wallet_engine.redis_store.stream import first_seq, is_of_another_type, readable, unbroken
from wallet_engine.redis_store.topology import (
    SLOT_KEYS_MAX,
    NodeView,
    check_settings,
    find_primary,
    keys_in_slots,
    no_primary,
    view_node,
)
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import PartitionMap
from wallet_engine.routing.slots import slot_of, slot_range, tag_of
from wallet_engine.telemetry.logging import get_logger

STREAM_READ_MAX: Final = 256
#: Open entries read from the stream at a time; each may have 150 kB.
STREAM_LOOK_MAX: Final = 32
#: Refused partitions of which the log says why: after a start on a wrong directory, all of them are refused.
REFUSED_LOGGED_MAX: Final = 8
#: By how much a fence raises the epoch of a partition that is away. While it serves, all else raises it by 1.
FENCE_EPOCHS: Final = 2
#: Nonce and state of a `meta` that is not what it must be.
UNREADABLE: Final = "unreadable"
_META: Final = (
    *("seq", "nonce", "epoch", "owner", "state", "currencies", "form", "flagged"),
    *("window", "clock", "witnessed_s", "trimmed"),
)
_FORGET: Final = load_script("forget").text
_SET_ASIDE: Final = load_script("set_aside").text

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Meta:
    """A partition's meta hash as Redis holds it; `state` is None when there is no such key.

    If a number in it is none, or it is no hash, `seq` is 0 and `nonce` is one that no journal knows: the partition is
    made anew.
    """

    seq: int
    nonce: str
    epoch: int
    owner: str
    state: str | None
    currencies: str
    form: str
    flagged: str = ""

    @classmethod
    def parse(cls, values: list[bytes | None]) -> "Meta":
        texts = [(value or b"").decode(errors="replace") for value in values]
        seq, nonce, epoch, owner, state, currencies, form, flagged, *counts = texts
        if _is_number(form) and int(form) > int(FORM):
            raise NewerFormat("Redis remembers ids in form", int(form), int(FORM))
        missing = bool(seq) and not counts[0]  # the window
        if missing or not all(map(_is_number, filter(None, (seq, epoch, *counts)))):
            seq, nonce, epoch = "", UNREADABLE, epoch if _is_number(epoch) else ""
        return cls(int(seq or 0), nonce, int(epoch or 0), owner, state or None, currencies, form, flagged)


@dataclass(frozen=True, slots=True)
class Certified:
    """A shard's primary and the partitions it has by the map.

    `away`: partitions whose slot is not on the node. `stopped`: those whose replay differs from the record.
    `refused`: those that could not be recovered, for example because the journal lacks entries of them.
    """

    primary: NodeView
    map: PartitionMap
    partitions: Mapping[int, PartitionKeys]
    away: frozenset[int]
    council: Council
    stopped: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()

    def slots(self, partition: int) -> range:
        return slot_range(partition, len(self.map.partitions))


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What the `meta` of a partition said when it was not recovered, and why it was not."""

    seq: int
    nonce: str
    why: str


class ShardRecovery:
    """One pass over one shard. Use `run`, then drain the partitions it returns."""

    def __init__(
        self, shard: str, directory: Directory, copy: JournalCopy, commit: GroupCommit, fellows: Fellows
    ) -> None:
        self._shard = shard
        self._directory = directory
        self._copy = copy
        self._writer = copy.writer
        self._commit = commit
        self._fellows = fellows
        #: Partitions whose slot was found away, until they are rebuilt.
        self._fenced: set[int] = set()
        self._refused: dict[int, _Refusal] = {}

    def __repr__(self) -> str:
        return f"<ShardRecovery {self._shard}>"

    async def run(self, suspects: Set[int] = frozenset(), behind: Set[int] = frozenset()) -> Certified:
        """The certified primary and the partitions it serves, `live` or frozen for a move.

        `suspects` are recovered in any case, unless this copy is the one that is not up to date. For those in
        `behind`, the stream lacks the entry that this copy needs next.
        A partition is `stopped` if replay of an entry differs from the record: `fault` in its meta names the
        entry, until an operator has it rebuilt. It is refused, and stays `recovering`, while the journal lacks
        entries that it has had, or when another recovery has taken it. The others go on. Raises OSError when no
        primary answers, `ConfigError` when a node is unfit.
        """
        refused: list[str] = []
        primary = await self._find_primary(refused)
        if primary is None:
            raise OSError(f"shard {self._shard}: {no_primary(refused)}")
        await asyncio.to_thread(check_settings, primary.address)
        async with _connected(primary.address) as connection:
            found = await self._set_aside(connection, await self._look(primary))
            suspected = {p: found.map.epoch_of(p) for p in suspects if self._in_era(found, p)}
            if found.council.sole:  # no other copy can have what this one lacks
                suspected |= {p: found.map.epoch_of(p) for p in behind & found.partitions.keys()}
            behind |= suspects - suspected.keys()
            if (
                not suspected
                and self._fenced.issuperset(found.away)
                and await self._loaded(connection)
                and not await self._uncertified(connection, found)
            ):
                await self.admit(connection, found, found.partitions, behind)
                self._fenced &= found.away | found.refused
                return found
            async with self._locked():
                await asyncio.to_thread(self._finish_switches, found)
                found = await self._look(primary)
                if found.away:
                    found = await self._fence_away(found)
                found = await self._set_aside(connection, found)
                todo = set(found.partitions)
                if await self._loaded(connection):
                    # Another copy may have recovered them while this one waited.
                    suspected = {p: e for p, e in suspected.items() if found.map.epoch_of(p) == e}
                    todo &= {*await self._uncertified(connection, found), *suspected}
                if todo:
                    chosen = {p: found.partitions[p] for p in sorted(todo)}
                    await self._recover(connection, found, chosen)
                    found = await self._set_aside(connection, await self._look(found.primary))
                elif not found.partitions:
                    await self._load_scripts(connection)
                self._fenced &= found.away | found.refused
            await self.admit(connection, found, found.partitions, behind)
        return found

    async def _look(self, primary: NodeView) -> Certified:
        """The shard's partitions by the map."""
        config = await asyncio.to_thread(self._directory.config)
        partition_map = await asyncio.to_thread(self._directory.partition_map)
        mine = partition_map.partitions_of(self._shard)
        kept = [p for p in mine if primary.keeps(slot_range(p, config.partitions)[0])]
        keys = {partition: PartitionKeys(tag_of(partition, config.partitions)) for partition in kept}
        # Read the council after the epochs: a replaced copy must not count in a later epoch.
        return Certified(
            primary, partition_map, keys, frozenset(mine) - keys.keys(), await self._fellows.council()
        )

    async def _set_aside(self, connection: Connection, found: Certified) -> Certified:
        """`found` without the stopped and the refused partitions."""
        stopped = await self._faults(connection, found.partitions)
        kept = found.partitions.keys() - stopped.keys()
        self._refused = {p: refusal for p, refusal in self._refused.items() if p in kept}
        aside = stopped.keys() | self._refused.keys()
        serving = {p: keys for p, keys in found.partitions.items() if p not in aside}
        return replace(
            found,
            partitions=serving,
            stopped=found.stopped | stopped.keys(),
            refused=frozenset(self._refused),
        )

    async def _faults(
        self, connection: Connection, partitions: Mapping[int, PartitionKeys]
    ) -> dict[int, str]:
        """partition -> why it is stopped. This stops partitions that were condemned during their recovery."""
        replies = await connection.call_all(
            [pack(("EVAL", _SET_ASIDE, 1, k.meta)) for k in partitions.values()]
        )
        said = zip(partitions, replies, strict=True)
        return {partition: fault.decode() for partition, fault in said if type(fault) is bytes}

    async def mended(self, connection: Connection, found: Certified) -> bool:
        """Whether an operator has asked for a stopped partition to be recovered."""
        count = len(found.map.partitions)
        stopped = {p: PartitionKeys(tag_of(p, count)) for p in found.stopped}
        return len(await self._faults(connection, stopped)) < len(stopped)

    async def changed(self, connection: Connection, found: Certified) -> bool:
        """Whether a refused partition is not as it was when it was refused."""
        for partition in found.refused & self._refused.keys():
            refusal = self._refused[partition]
            meta = await _meta(connection, PartitionKeys(tag_of(partition, len(found.map.partitions))))
            if meta.state != "recovering":  # another copy has recovered it
                return True
            if (meta.seq, meta.nonce) != (refusal.seq, refusal.nonce):
                return True
        return False

    @property
    def refusals(self) -> dict[int, str]:
        """Refused partition -> why."""
        return {partition: refusal.why for partition, refusal in self._refused.items()}

    def allow_refused(self) -> None:
        """The next pass tries to recover refused partitions again."""
        self._refused.clear()

    async def _fence_away(self, found: Certified) -> Certified:
        """Prevent writes to partitions whose slot an operator moved away, until they are rebuilt.

        Keys left with the slot, perhaps not all of them. When the slot comes back, its `meta` may look
        unchanged. So this raises their epoch now: no old `meta` has the new one. It raises it by `FENCE_EPOCHS`,
        which tells every later recovery, also that of another process, that the partition must be made anew.
        """
        self._fenced.intersection_update(found.map.partitions_of(self._shard))
        for partition in sorted(found.away):
            stored = await asyncio.to_thread(self._directory.moves.get, partition)
            if stored is not None and stored.move.target == self._shard:
                raise OSError(f"partition {partition}: its move to {self._shard} is not finished")
        # Read the slots last: once a move has no record, its partition has its slot where the map says.
        primary = await self._look_again(found.primary)
        for partition in sorted(found.away - self._fenced):
            slot = found.slots(partition)[0]
            if not primary.keeps(slot):
                log.error(
                    "slot is not where the map says: the partition is not served, see wallet-admin doctor",
                    **{"partition": partition, "slot": slot, "shard": self._shard, "node": primary.address},
                )
                above = {partition: found.map.epoch_of(partition) + FENCE_EPOCHS - 1}
                raising = partial(
                    self._directory.raise_epochs, [partition], above=above, on_shard=self._shard
                )
                await asyncio.to_thread(raising)
                self._fenced.add(partition)
        return await self._look(primary)

    async def _find_primary(self, refused: list[str] | None = None) -> NodeView | None:
        """Raises OSError when the directory lacks the shard: it was removed, or the whole tree is lost."""
        shard = await asyncio.to_thread(self._directory.shard, self._shard)
        if shard is None:
            raise OSError(f"shard {self._shard} is not in the directory")
        return await asyncio.to_thread(find_primary, shard.nodes, refused)

    async def _look_again(self, known: NodeView) -> NodeView:
        """The primary with its current slots. Raises OSError when another node is the primary now."""
        primary = await self._find_primary()
        if primary is None or primary.node_id != known.node_id:
            raise OSError(f"shard {self._shard}: its primary has changed")
        return primary

    async def came_back(self, found: Certified) -> bool:
        """Whether the node now keeps the slot of a partition that was away."""
        view = await asyncio.to_thread(view_node, found.primary.address)
        return view is not None and any(view.keeps(found.slots(partition)[0]) for partition in found.away)

    def _in_era(self, found: Certified, partition: int) -> bool:
        """Whether this copy's chain is known to be a part of the chain of the epoch in force."""
        return found.council.sole or self._writer.view(partition) >= found.map.epoch_of(partition)

    async def admit(
        self,
        connection: Connection,
        found: Certified,
        partitions: Iterable[int],
        behind: Set[int] = frozenset(),
    ) -> None:
        """From now on, give receipts for certified partitions whose chains this copy follows.

        Missing entries are fetched from another copy first. Raises OSError when none has them.
        """
        behind_here, follows, fresh = [], [], []
        for partition in sorted(partitions):
            keys = PartitionKeys(tag_of(partition, len(found.map.partitions)))
            lost = partition in behind and not await self._goes_on(connection, partition, keys)
            if self._in_era(found, partition) and not lost:
                follows.append(partition)
                continue
            meta, position = await _meta(connection, keys), self._writer.position(partition)
            equal = meta.seq == position.seq and (not meta.seq or meta.nonce == position.nonce)
            if equal and meta.epoch == found.map.epoch_of(partition):
                fresh.append(partition)
            elif lost or meta.seq <= position.seq:
                behind_here.append(partition)
            # else the stream may still have all missing entries: the drain finds out
        if behind_here:
            await self._follow(found, behind_here)
        self._commit.follows({p: found.map.epoch_of(p) for p in (*follows, *fresh, *behind_here)})

    async def _goes_on(self, connection: Connection, partition: int, keys: PartitionKeys) -> bool:
        """Whether the stream has this copy's next entry; that of a partition rebuilt since may lack it."""
        start = f"{self._writer.position(partition).seq + 1}-0"
        try:
            return bool(await connection.call("XRANGE", keys.journal, start, start))
        except hiredis.ReplyError as error:
            if not is_of_another_type(error):
                raise
            return False

    async def _follow(self, found: Certified, partitions: list[int]) -> None:
        """Take over chains from the copies that are furthest in the epochs in force."""
        epochs = {partition: found.map.epoch_of(partition) for partition in partitions}
        followed = await follow(self._copy, self._commit, self._fellows, found.council, epochs)
        missing = [partition for partition in partitions if partition not in followed]
        if missing:
            raise OSError(f"partition {missing[0]}: no journal copy that answers has what this one needs")

    def _finish_switches(self, found: Certified) -> None:
        """Take the slots of partitions that the map moved here, if their move stopped between map and slots.

        Only the record of a move shows that. Any other difference between map and slots needs an operator.
        """
        for partition in sorted(found.away):
            slots = found.slots(partition)
            stored = self._directory.moves.get(partition)
            entry = self._directory.partition_map().partitions[partition]
            if stored is None or not self._shard == stored.move.target == entry.shard:
                continue
            others = [node for shard in self._directory.readable_shards().values() for node in shard.nodes]
            log.warning("finishing the switch of a move", partition=partition, shard=self._shard)
            try:
                give_slots(slots, found.primary, others)
            except RedisError as error:
                raise OSError(f"partition {partition}: {error}") from None

    async def _loaded(self, connection: Connection) -> bool:
        return all(await connection.call("SCRIPT", "EXISTS", *(script.sha for script in service_scripts())))

    async def _load_scripts(self, connection: Connection) -> None:
        for script in service_scripts():
            await connection.call("SCRIPT", "LOAD", script.text)

    async def _uncertified(self, connection: Connection, found: Certified) -> list[int]:
        """The partitions that may not serve in their present state."""
        return [
            partition
            for partition in found.partitions
            if not await self.certified(connection, found, partition)
        ]

    async def certified(self, connection: Connection, found: Certified, partition: int) -> bool:
        """Whether the partition may serve in its state on the node; it may be frozen for a move."""
        keys = PartitionKeys(tag_of(partition, len(found.map.partitions)))
        meta = await _meta(connection, keys)
        position = self._writer.position(partition)
        return (
            meta.state in ("live", "moving")
            and meta.owner == found.primary.node_id
            and meta.form == FORM
            and meta.epoch == found.map.epoch_of(partition)
            and (
                meta.seq > position.seq
                or (meta.seq == position.seq and meta.nonce == position.nonce)
                or not self._in_era(found, partition)  # then this copy must catch up
            )
        )

    async def _recover(
        self, connection: Connection, found: Certified, partitions: Mapping[int, PartitionKeys]
    ) -> None:
        ballot = Ballot(self._directory, self._copy, self._commit, self._fellows, partitions)
        try:
            await ballot.begin()
            await self._recover_by(ballot, connection, found, partitions)
        finally:
            ballot.close()

    async def _recover_by(
        self,
        ballot: Ballot,
        connection: Connection,
        found: Certified,
        partitions: Mapping[int, PartitionKeys],
    ) -> None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        log.info("recovering", shard=self._shard, node=found.primary.address, partitions=len(partitions))
        epochs, doubtful = await self._claim_all(connection, found, partitions)
        await ballot.promised(epochs, self._shard)
        await self._forget_on_replicas(connection, doubtful)
        hands = {p: Hands(connection, p, keys, ballot.epochs[p]) for p, keys in partitions.items()}
        for partition, why in ballot.forked.items():
            forked = hands.pop(partition)
            async with self._leaving_out(ballot, forked):
                await forked.claim()
                await self._stop(forked, why)
        prepared: dict[int, Meta] = {}
        for partition, ours in hands.items():
            async with self._leaving_out(ballot, ours):
                prepared[partition] = await self._prepare(ours)
        replayers = await self._replay_all(ballot, connection, hands, prepared)
        serving: list[Hands] = []
        for partition in prepared:
            ours = hands[partition]
            if partition in ballot.epochs:
                async with self._leaving_out(ballot, ours):
                    if await self._finish(ours, replayers.get(partition)):
                        serving.append(ours)
        await ballot.spread()
        certified = await self._certify(ballot, found.primary, serving)
        await self._load_scripts(connection)
        if len(self._refused) > REFUSED_LOGGED_MAX:
            log.error("more partitions not recovered", shard=self._shard, partitions=len(self._refused))
        operations = sum(replayer.operations for replayer in replayers.values())
        log.info(
            "recovered",
            shard=self._shard,
            partitions=certified,
            replayed_operations=operations,
            seconds=round(loop.time() - started_s, 3),
        )

    async def _claim_all(
        self, connection: Connection, found: Certified, partitions: Mapping[int, PartitionKeys]
    ) -> tuple[dict[int, int], list[PartitionKeys]]:
        """Take the partitions out of service. Returns the epochs they had, and those whose replicas are doubtful."""
        epochs: dict[int, int] = {}
        doubtful: list[PartitionKeys] = []
        for partition, keys in partitions.items():
            meta = await _meta(connection, keys)
            epochs[partition] = meta.epoch
            if meta.state == UNREADABLE:
                log.error("meta is no hash: the partition is made anew", partition=partition)
            fenced = 0 < meta.epoch <= found.map.epoch_of(partition) - FENCE_EPOCHS
            if (fenced and meta.state in ("live", "moving")) or meta.nonce == AWAY:
                self._fenced.add(partition)
                await Hands(connection, partition, keys, meta.epoch).distrust(meta.state)
            if meta.state is None or partition in self._fenced:
                doubtful.append(keys)
            if meta.state is not None:
                await Hands(connection, partition, keys, meta.epoch).claim()
        return epochs, doubtful

    @asynccontextmanager
    async def _leaving_out(self, ballot: Ballot, ours: Hands) -> AsyncIterator[None]:
        """Refuse this partition if it fails in the block: it leaves the ballot, and the others go on."""
        try:
            yield
        except (Corruption, Overtaken) as why:
            ballot.epochs.pop(ours.partition, None)
            meta = await _meta(ours.connection, ours.keys)
            self._refused[ours.partition] = _Refusal(meta.seq, meta.nonce, text_of(why))
            if len(self._refused) <= REFUSED_LOGGED_MAX:
                log.error("partition not recovered", partition=ours.partition, reason=text_of(why))

    async def _replay_all(
        self, ballot: Ballot, connection: Connection, hands: Mapping[int, Hands], prepared: Mapping[int, Meta]
    ) -> dict[int, Replayer]:
        """Replay the partitions that are behind the journal. Returns the replayer of each of them."""
        replayers: dict[int, Replayer] = {}
        after: dict[int, int] = {}
        for partition, meta in prepared.items():
            if meta.seq != self._writer.position(partition).seq:
                replayers[partition] = Replayer(hands[partition], meta.currencies, limits=meta.flagged == "2")
                after[partition] = meta.seq
        await self._replay(connection, replayers, after)
        # The data in Redis or in a snapshot may be wrong, and the journal right.
        doubted = [p for p, seq in after.items() if seq and replayers[p].differs]
        for partition in doubted:
            async with self._leaving_out(ballot, hands[partition]):
                replayers[partition] = await self._emptied(hands[partition], replayers[partition].differs)
        await self._replay(connection, {p: replayers[p] for p in doubted}, dict.fromkeys(doubted, 0))
        return replayers

    async def _emptied(self, hands: Hands, why: str) -> Replayer:
        """Begin to make the partition anew from the whole journal."""
        log.warning("partition made anew", partition=hands.partition, reason=why)
        await self._empty(hands)
        return Replayer(hands, "")

    async def _finish(self, hands: Hands, replayer: Replayer | None) -> bool:
        """Whether the partition is equal to the journal now. It is stopped if what was replayed differs.

        Raises `Corruption` and `Overtaken`.
        """
        partition = hands.partition
        try:
            if _is_replayed(replayer):
                await self._restore_open_entries(hands)
        except Corruption as why:
            replayer = await self._emptied(hands, text_of(why))
            await self._replay(hands.connection, {partition: replayer}, {partition: 0})
            if _is_replayed(replayer):
                await self._restore_open_entries(hands)
        if replayer is not None and replayer.differs:
            await self._stop(hands, replayer.differs)
            return False
        await self._compare(hands.connection, partition, hands.keys)
        return True

    async def _prepare(self, hands: Hands) -> Meta:
        """Bring the partition to a state that the journal knows, and drain what only Redis has."""
        await hands.claim()
        connection, partition, keys = hands.connection, hands.partition, hands.keys
        meta = await _meta(connection, keys)
        position = self._writer.position(partition)
        distrusted = partition in self._fenced
        if meta.seq > position.seq:
            try:
                if distrusted:
                    await self._check_stream(connection, partition, keys, meta.seq)
                else:
                    await self._drain(connection, partition, keys, meta.seq)
                    self._check_no_gap(partition, meta.seq)
            except Fork as fork:
                log.error("fork dropped", partition=partition, error=str(fork))
        knows = not distrusted and await self._knows(connection, partition, slot_of(keys.tag), meta)
        if knows and await self._ends(connection, keys, meta.seq):
            return meta
        if meta.nonce:  # else it was absent
            log.warning("partition dropped", partition=partition, seq=meta.seq, journal_seq=position.seq)
        snapshot = await newest_snapshot(self._writer.directory, partition, position.seq)
        if snapshot is None:
            return await self._empty(hands)
        with snapshot:
            await SnapshotLoader(hands).load(snapshot)
        log.info("snapshot loaded", partition=partition, seq=snapshot.head.seq, journal_seq=position.seq)
        return await _meta(connection, keys)

    async def _stop(self, hands: Hands, why: str) -> None:
        log.critical(
            "partition stopped: its journal must be looked at",
            partition=hands.partition,
            why=why,
        )
        await hands.stop(why)

    async def _empty(self, hands: Hands) -> Meta:
        """The partition before its first entry."""
        nonce = await hands.clear()
        fresh: dict[str, Word] = {"seq": 0, "nonce": ZERO_NONCE, "owner": "", "clock": 0}
        fresh |= {"window": 1, "currencies": "", "form": FORM}
        await hands.restored(nonce, {}, [word for pair in fresh.items() for word in pair])
        return Meta(0, ZERO_NONCE, hands.epoch, "", "recovering", "", FORM)

    async def _forget_on_replicas(self, connection: Connection, partitions: Iterable[PartitionKeys]) -> None:
        """Drop keys that replicas have and their primary lacks; no write to the primary's own keys does that.

        A primary that loses a slot drops the keys without telling its replicas. If the slot comes back, a
        replica that is promoted later would serve those keys, with the right seq and nonce.
        """
        slots = [slot_of(keys.tag) for keys in partitions]
        if not slots:
            return
        role, _, replicas, *_ = await connection.call("ROLE")
        if role != b"master":
            raise OSError(f"shard {self._shard}: its primary has changed")
        here = set()
        for slot in slots:
            here.update(await connection.call("CLUSTER", "GETKEYSINSLOT", slot, SLOT_KEYS_MAX))
        for host, port, _ in replicas:
            address = f"{host.decode()}:{port.decode()}"
            for name in await asyncio.to_thread(keys_in_slots, address, slots):
                if name.encode() not in here:
                    await connection.call("EVAL", _FORGET, 1, name)

    async def _knows(self, connection: Connection, partition: int, slot: int, meta: Meta) -> bool:
        if meta.form != FORM:  # written by another version: its remembered ids would not be found
            return False
        if meta.seq == 0:
            # `meta` must be the only key: commands of an earlier recovery, sent on a connection that it lost,
            # may come late and create a new `meta` beside old keys.
            names = await connection.call("CLUSTER", "GETKEYSINSLOT", slot, 2)
            return meta.nonce == ZERO_NONCE and len(names) == 1
        return (await self._copy.held([(partition, meta.seq, meta.nonce)]))[0]

    async def _ends(self, connection: Connection, keys: PartitionKeys, seq: int) -> bool:
        """Whether the stream has nothing after this entry. If it has, no script of ours wrote that."""
        try:
            return not await connection.call("XRANGE", keys.journal, f"{seq + 1}-0", "+", "COUNT", 1)
        except hiredis.ReplyError as error:
            if not is_of_another_type(error):
                raise
            return False

    async def _drain(self, connection: Connection, partition: int, keys: PartitionKeys, seq: int) -> None:
        """Take over the entries up to `seq` that continue the chain and that no journal copy has read yet.

        Raises `Corruption` when one of them cannot be read.
        """
        while self._writer.position(partition).seq < seq:
            start = f"{self._writer.position(partition).seq + 1}-0"
            try:
                found = await connection.call(
                    "XRANGE", keys.journal, start, f"{seq}-0", "COUNT", STREAM_READ_MAX
                )
            except hiredis.ReplyError as error:
                if not is_of_another_type(error):
                    raise
                raise Corruption(f"partition {partition}: {error}") from None
            if not found:
                return
            self._check_no_gap(partition, first_seq(found) - 1)
            entries, why = readable(found)
            self._commit.install([(partition, entry.payload) for entry in unbroken(entries)])
            if why:
                raise Corruption(f"partition {partition}: {why}")

    async def _check_stream(
        self, connection: Connection, partition: int, keys: PartitionKeys, seq: int
    ) -> None:
        """Check that the entries up to `seq` which this copy lacks were never on disk.

        They are not taken over.
        """
        start = f"{self._writer.position(partition).seq + 1}-0"
        (found,) = await connection.call_all([pack(("XRANGE", keys.journal, start, "+", "COUNT", 1))])
        if isinstance(found, Exception) and not is_of_another_type(found):
            raise found
        is_there = found and not isinstance(found, Exception)
        self._check_no_gap(partition, first_seq(found) - 1 if is_there else seq)

    def _check_no_gap(self, partition: int, seq: int) -> None:
        """Entries leave a stream only when they are on disk.

        If this copy lacks them, it is not the whole journal.
        """
        position = self._writer.position(partition)
        if seq > position.seq:
            raise Corruption(
                f"partition {partition}: entries {position.seq + 1} to {seq} were on disk once and are not in "
                f"{self._writer.directory}: this is not the whole journal, and Redis is left as it is"
            )

    async def _replay(
        self, connection: Connection, replayers: Mapping[int, Replayer], after: Mapping[int, int]
    ) -> None:
        """Feed every partition that is behind, in one pass over the journal.

        Only this loads the replay script into a node, because everything that Lua keeps slows down later
        calls.
        """
        if not replayers:
            return
        await connection.call("SCRIPT", "LOAD", load_script("apply", replay=True).text)
        loop = asyncio.get_running_loop()
        reported_s = loop.time()
        async for record in self._records(replayers, after):
            await replayers[record.partition].replay(record.payload)
            if loop.time() - reported_s > 1.0:
                reported_s = loop.time()
                log.info(
                    "replaying", shard=self._shard, operations=sum(r.operations for r in replayers.values())
                )
        for replayer in replayers.values():
            await replayer.finish()

    async def _records(self, partitions: Iterable[int], after: Mapping[int, int]) -> AsyncIterator[Record]:
        """The records of these partitions that the journal has now, after the given entries."""
        writer = self._writer
        end = {partition: writer.durable_seq(partition) for partition in partitions}
        records = read(writer.directory, after=after, end=end, last=writer.last_index())
        async for page in in_pages(records):
            for record in page:
                yield record

    async def _restore_open_entries(self, hands: Hands) -> None:
        """Write the open entries to the stream: replay does not, and the sweeper needs them.

        Raises `Overtaken`, and `Corruption` when `open` cannot be read.
        """
        connection, partition, keys = hands.connection, hands.partition, hands.keys
        members = OpenMembers(keys.open)
        try:
            while not members.done:
                members.take(await connection.call(*members.command))
        except hiredis.ReplyError as error:
            if not is_of_another_type(error):
                raise
            raise Corruption(f"{keys.open}: {error}") from None
        seqs = members.seqs
        if not seqs or not await self._lacks_one(connection, keys, seqs):
            return
        # Stream ids can only grow, so write all of them again, in order.
        await hands.unstream()
        wanted = set(seqs)
        async for record in self._records({partition}, {partition: seqs[0] - 1}):
            seq = int(record.payload.partition(b" ")[0])
            if seq in wanted:
                await hands.restream(seq, record.payload)

    async def _lacks_one(self, connection: Connection, keys: PartitionKeys, seqs: Sequence[int]) -> bool:
        """Whether the stream lacks one of these entries."""
        for start in range(0, len(seqs), STREAM_LOOK_MAX):
            some = (f"{seq}-0" for seq in seqs[start : start + STREAM_LOOK_MAX])
            commands = [pack(("XRANGE", keys.journal, entry_id, entry_id)) for entry_id in some]
            for found in await connection.call_all(commands):
                if not found or is_of_another_type(found):
                    return True
                if isinstance(found, Exception):
                    raise found
        return False

    async def _compare(self, connection: Connection, partition: int, keys: PartitionKeys) -> None:
        meta = await _meta(connection, keys)
        position = self._writer.position(partition)
        if meta.seq != position.seq or (meta.seq and meta.nonce != position.nonce):
            raise Corruption(
                f"partition {partition} stands at {meta.seq} {meta.nonce} after recovery, "
                f"the journal at {position.seq} {position.nonce}"
            )

    async def _certify(self, ballot: Ballot, primary: NodeView, partitions: Sequence[Hands]) -> int:
        """Let the partitions serve that are still in these hands. Returns how many."""
        now = await asyncio.to_thread(self._directory.partition_map)
        for hands in partitions:
            partition = hands.partition
            async with self._leaving_out(ballot, hands):
                if now.shard_of(partition) != self._shard or now.epoch_of(partition) != hands.epoch:
                    raise Overtaken(f"partition {partition}: its epoch {hands.epoch} is over already")
                position = self._writer.position(partition)
                await hands.certify(position.seq, position.nonce or ZERO_NONCE, primary.node_id)
        return sum(hands.partition in ballot.epochs for hands in partitions)

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        lock = self._directory.lock(f"recovery-{self._shard}")
        await asyncio.to_thread(lock.__enter__)
        try:
            yield
        finally:
            await asyncio.to_thread(lock.__exit__, None, None, None)


def _is_replayed(replayer: Replayer | None) -> bool:
    """Whether nothing differs in what was replayed, if anything was. Raises `Overtaken`."""
    if replayer is not None and replayer.overtaken is not None:
        raise replayer.overtaken
    return replayer is None or not replayer.differs


async def _meta(connection: Connection, keys: PartitionKeys) -> Meta:
    try:
        return Meta.parse(await connection.call("HMGET", keys.meta, *_META))
    except hiredis.ReplyError as error:
        if not is_of_another_type(error):
            raise
        return Meta(0, UNREADABLE, 0, "", UNREADABLE, "", "")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


@asynccontextmanager
async def _connected(address: str) -> AsyncIterator[Connection]:
    connection = await Connection.open(address, lambda _: None)
    try:
        yield connection
    finally:
        connection.close()
