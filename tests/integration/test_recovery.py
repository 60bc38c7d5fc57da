"""Recovery of one shard on a real Redis from a real directory: what it reads, and in which thread."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import redis
from support.clusters import RedisClusterFactory
from support.looked import Looked, with_marks_every
from unit.recovery.random_journal import RandomJournal

from wallet_engine.deciding.stopping import stop_partition
from wallet_engine.drain.group_commit import GroupCommit
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.link_server import LinkServer
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.recovery import hands
from wallet_engine.recovery.ballot import Ballot
from wallet_engine.recovery.fellows import Fellows
from wallet_engine.recovery.hands import Hands
from wallet_engine.recovery.keeper import ShardKeeper
from wallet_engine.recovery.recover import ShardRecovery
from wallet_engine.recovery.refused import refused_partition
from wallet_engine.recovery.returning import Returning
from wallet_engine.redis_store.connection import Connection
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.scripts import load_script, service_scripts
from wallet_engine.routing.directory import JOURNALS, SHARDS, Directory, open_directory
from wallet_engine.routing.model import ClusterConfig, PartitionMap, Shard, spread
from wallet_engine.routing.slots import tag_of
from wallet_engine.telemetry.metrics import Metrics

PARTITIONS = 4
MARK_BYTES = 8 * 1024


@pytest.fixture
def directory(redis_cluster: RedisClusterFactory, tmp_path: Path) -> Iterator[Directory]:
    address = redis_cluster().primary("s1").address
    with closing(open_directory(None, tmp_path / "map.json")) as made:
        made.initialise(
            ClusterConfig(partitions=PARTITIONS), [Shard("s1", (address,))], spread(PARTITIONS, ["s1"])
        )
        made.replace_members(made.members(), ("random",))
        yield made


def recover(
    directory: Directory, journal: Path, serving: Collection[int] = range(PARTITIONS)
) -> PartitionMap:
    """Recover the shard, which compares itself with the journal; returns the map after that."""

    async def main() -> PartitionMap:
        writer = await asyncio.to_thread(JournalWriter, journal, "random")
        try:
            copy = JournalCopy(writer)
            commit = GroupCommit(copy, LinkServer(copy, lambda shard, reason: None), Metrics())
            recovery = ShardRecovery("s1", directory, copy, commit, Fellows(directory, copy))
            found = await recovery.run()
            assert sorted(found.partitions) == sorted(serving)
            return found.map
        finally:
            writer.close()

    return asyncio.run(asyncio.wait_for(main(), 60))


def test_g6_recovery_reads_what_redis_lacks_and_no_thread_that_answers_reads_it(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large the segment is: other shards' entries would wait on the event loop meanwhile."""
    with_marks_every(MARK_BYTES, monkeypatch)
    journal = RandomJournal(tmp_path / "journal", 7, partitions=PARTITIONS, segment_bytes_max=1 << 28)
    journal.grow(800)
    looked = Looked(monkeypatch)
    partition_map = recover(directory, tmp_path / "journal")
    assert looked.since() >= 2 * 800  # at opening, and for the replay
    for partition, batches in enumerate(journal.batches):
        batches.state.epoch = partition_map.epoch_of(partition)
    journal.grow(10)
    opening = looked.since()  # the writer of those ten

    async def elsewhere(*_: object) -> None:
        """Reads the texts of open entries, of whatever age: not counted here."""

    monkeypatch.setattr(ShardRecovery, "_restore_open_entries", elsewhere)
    recover(directory, tmp_path / "journal")
    size = (tmp_path / "journal" / "00000001.wal").stat().st_size
    per_mark = 800 * MARK_BYTES // size
    assert looked.since() - opening <= 10 + 2 * per_mark + 30
    assert not looked.frames_on_loop


def test_a_node_gets_the_text_for_replays_only_where_something_is_replayed(
    directory: Directory, tmp_path: Path
) -> None:
    """Lua keeps the text as long as the node lives, which slows its garbage collection."""
    journal = RandomJournal(tmp_path / "journal", 7, partitions=PARTITIONS)
    partition_map = recover(directory, tmp_path / "journal")
    (shard,) = directory.shards().values()
    host, _, port = shard.nodes[0].rpartition(":")
    with closing(redis.Redis(host, int(port))) as node:
        replays = load_script("apply", replay=True).sha
        assert all(node.script_exists(*(script.sha for script in service_scripts())))
        assert node.script_exists(replays) == [False]
        for partition, batches in enumerate(journal.batches):
            batches.state.epoch = partition_map.epoch_of(partition)
        journal.grow(10)
        recover(directory, tmp_path / "journal")
        assert node.script_exists(replays) == [True]


def test_g14_what_is_condemned_while_it_is_recovered_says_that_it_is_stopped(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other partitions serve. It used to say `recovering` for ever, which tells no operator what to do."""
    RandomJournal(tmp_path / "journal", 7, partitions=PARTITIONS).grow(10)
    compare = ShardRecovery._compare
    condemned: set[int] = set()

    async def meanwhile(
        self: ShardRecovery, connection: Connection, partition: int, keys: PartitionKeys
    ) -> None:
        await compare(self, connection, partition, keys)
        if partition == 1 and not condemned:
            condemned.add(partition)
            await asyncio.to_thread(stop_partition, directory, partition, "entry 1: not so")

    monkeypatch.setattr(ShardRecovery, "_compare", meanwhile)
    recover(directory, tmp_path / "journal", {0, 2, 3})
    (shard,) = directory.shards().values()
    host, _, port = shard.nodes[0].rpartition(":")
    with closing(redis.Redis(host, int(port), decode_responses=True)) as node:
        metas = [PartitionKeys(tag_of(partition, PARTITIONS)).meta for partition in range(PARTITIONS)]
        assert [node.hget(meta, "state") for meta in metas] == ["live", "stopped", "live", "live"]


@asynccontextmanager
async def kept(
    directory: Directory, journal: Path, told: dict[int, str] | None = None
) -> AsyncIterator[ShardKeeper]:
    """A keeper of the shard, in a task. `told`: partition -> what it tells of it."""
    writer = await asyncio.to_thread(JournalWriter, journal, "random")
    copy = JournalCopy(writer)
    commit = GroupCommit(copy, LinkServer(copy, lambda shard, reason: None), Metrics())
    fellows = Fellows(directory, copy)
    tell = ({} if told is None else told).__setitem__
    returning = Returning(copy, commit, fellows)
    keeper = ShardKeeper("s1", directory, copy, commit, fellows, returning, tell)
    keeping = asyncio.create_task(keeper.run())
    try:
        yield keeper
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        writer.close()


def test_g9_a_wrong_journal_is_refused_once_and_not_every_second(
    directory: Directory, tmp_path: Path
) -> None:
    """It lacks entries of every partition. Epochs and log lines grew once a second for as long as it ran."""
    RandomJournal(tmp_path / "journal", 7, partitions=PARTITIONS).grow(10)
    before = recover(directory, tmp_path / "journal")
    (shard,) = directory.shards().values()
    host, _, port = shard.nodes[0].rpartition(":")
    metas = [PartitionKeys(tag_of(partition, PARTITIONS)).meta for partition in range(PARTITIONS)]

    async def main(node: redis.Redis) -> None:
        told: dict[int, str] = {}
        async with kept(directory, tmp_path / "journal", told):
            await asyncio.sleep(1.0)
            assert [refused_partition(told[p]) for p in range(PARTITIONS)] == list(range(PARTITIONS))
            assert [node.hget(meta, "state") for meta in metas] == ["recovering"] * PARTITIONS
            risen = [directory.partition_map().epoch_of(p) - before.epoch_of(p) for p in range(PARTITIONS)]
            assert risen == [1] * PARTITIONS
            node.hset(metas[2], "seq", 0)  # as `rebuild --without-newer` does
            async with asyncio.timeout(5):
                while node.hget(metas[2], "state") != "live":
                    await asyncio.sleep(0.02)
                while told[2]:
                    await asyncio.sleep(0.02)
            assert [node.hget(metas[p], "state") for p in (0, 1, 3)] == ["recovering"] * 3
            assert "were on disk once" in told[0]

    with closing(redis.Redis(host, int(port), decode_responses=True)) as node:
        for meta in metas:
            node.hincrby(meta, "seq", 1)
            node.hset(meta, "state", "recovering")
        asyncio.run(asyncio.wait_for(main(node), 30))


def test_g9_a_stream_that_nobody_can_read_stops_no_shard(directory: Directory, tmp_path: Path) -> None:
    """What a stranger wrote behind the last entry goes: the partition is made anew from the journal, once."""
    RandomJournal(tmp_path / "journal", 7, partitions=PARTITIONS).grow(10)
    before = recover(directory, tmp_path / "journal")
    (shard,) = directory.shards().values()
    directory.put(f"{SHARDS}/s2", b"{")  # nor does the text of another shard, or of another copy
    directory.put(f"{JOURNALS}/other", b"{")
    host, _, port = shard.nodes[0].rpartition(":")
    keys = [PartitionKeys(tag_of(partition, PARTITIONS)) for partition in range(PARTITIONS)]

    def ours(node: redis.Redis, k: PartitionKeys) -> bool:
        return node.type(k.journal) != "string" and all(
            "header" in each for _, each in node.xrange(k.journal)
        )

    async def main(node: redis.Redis) -> None:
        async with kept(directory, tmp_path / "journal") as keeper:
            async with asyncio.timeout(10):
                while not all(ours(node, k) for k in keys) or keeper._drain is None:
                    await asyncio.sleep(0.02)
            drain = keeper._drain
            await asyncio.sleep(0.5)
            assert keeper._drain is drain
            assert [node.hget(k.meta, "state") for k in keys] == ["live"] * PARTITIONS
            risen = [directory.partition_map().epoch_of(p) - before.epoch_of(p) for p in range(PARTITIONS)]
            assert risen == [1, 1, 1, 0]

    with closing(redis.Redis(host, int(port), decode_responses=True)) as node:
        node.xadd(keys[0].journal, {"not": "ours"}, f"{int(node.hget(keys[0].meta, 'seq')) + 1}-0")
        node.xadd(keys[1].journal, {"not": "ours"})
        node.set(keys[2].journal, "not ours")
        asyncio.run(asyncio.wait_for(main(node), 30))


@pytest.mark.parametrize("restarted", [False, True])
def test_g9_a_key_that_nobody_can_read_stops_no_shard(
    directory: Directory, tmp_path: Path, restarted: bool
) -> None:
    """Its partition is made anew from the journal, once, also when the node has lost its scripts meanwhile.

    A key of another type failed the whole shard again and again, and a number that is none ended each journal process.
    """
    RandomJournal(tmp_path / "journal", 7, partitions=PARTITIONS).grow(30)
    before = recover(directory, tmp_path / "journal")
    (shard,) = directory.shards().values()
    host, _, port = shard.nodes[0].rpartition(":")
    keys = [PartitionKeys(tag_of(partition, PARTITIONS)) for partition in range(PARTITIONS)]

    def damage(node: redis.Redis) -> None:
        node.set(keys[0].meta, "not ours")
        if restarted:
            node.zadd(keys[1].open, {"not ours": 1})
            node.script_flush()
        else:
            node.set(keys[1].open, "not ours")
        node.hset(keys[2].meta, "window", b"\xff1")

    def everything(node: redis.Redis) -> list[dict[bytes, Any]]:
        hashes = [
            {key: node.hgetall(key) for key in node.keys(f"[^m]*{k.braced}") if node.type(key) == b"hash"}
            for k in keys
        ]
        return [
            of | {b"open": node.zrange(k.open, 0, -1, withscores=True)}
            for of, k in zip(hashes, keys, strict=True)
        ]

    def epochs() -> list[int]:
        return [directory.partition_map().epoch_of(p) - before.epoch_of(p) for p in range(PARTITIONS)]

    async def main(node: redis.Redis) -> None:
        had = everything(node)
        if restarted:
            damage(node)
        async with kept(directory, tmp_path / "journal") as keeper:
            async with asyncio.timeout(10):
                while keeper._drain is None:
                    await asyncio.sleep(0.02)
                if not restarted:
                    damage(node)
                while epochs()[:3] != [1, 1, 1] or keeper._drain is None:
                    await asyncio.sleep(0.02)
            drain = keeper._drain
            await asyncio.sleep(1.2)  # longer than it takes to look at every key
            assert keeper._drain is drain
            assert [node.hget(k.meta, "state") for k in keys] == [b"live"] * PARTITIONS
            assert epochs() == [1, 1, 1, int(restarted)]
            assert everything(node) == had

    with closing(redis.Redis(host, int(port))) as node:
        asyncio.run(asyncio.wait_for(main(node), 30))


@pytest.mark.parametrize("name", ["seq", "epoch"])
def test_g9_a_meta_without_its_numbers_is_made_anew(directory: Directory, tmp_path: Path, name: str) -> None:
    """It ended the journal process, and each one after it."""
    RandomJournal(tmp_path / "journal", 7, partitions=PARTITIONS).grow(10)
    recover(directory, tmp_path / "journal")
    (shard,) = directory.shards().values()
    host, _, port = shard.nodes[0].rpartition(":")
    keys = PartitionKeys(tag_of(1, PARTITIONS))
    with closing(redis.Redis(host, int(port))) as node:
        before = node.hgetall(keys.meta)
        node.hset(keys.meta, name, b"\xff1")
        recover(directory, tmp_path / "journal")
        after = node.hgetall(keys.meta)
        assert int(after.pop(b"epoch")) > int(before.pop(b"epoch"))
        assert after == before


@pytest.mark.parametrize("step", ["promised", "_prepare", "_compare"])
@pytest.mark.parametrize("state", ["live", "recovering"])
def test_g7_a_recovery_that_was_overtaken_changes_nothing_more(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, state: str
) -> None:
    """G6, G7: it was stopped after this step, and another one has taken the partition in a newer epoch.

    It used to lower the epoch, to stop a partition that served, and to delete keys.
    """
    RandomJournal(tmp_path / "journal", 7, partitions=PARTITIONS).grow(10)
    recover(directory, tmp_path / "journal")
    (shard,) = directory.shards().values()
    host, _, port = shard.nodes[0].rpartition(":")
    keys = PartitionKeys(tag_of(1, PARTITIONS))
    kind = Ballot if step == "promised" else ShardRecovery
    original = getattr(kind, step)
    with closing(redis.Redis(host, int(port), decode_responses=True)) as node:
        held: list[dict[str, dict[str, str]]] = []

        def everything() -> dict[str, dict[str, str]]:
            return {
                name: node.hgetall(name) for name in node.keys("*" + keys.braced) if node.type(name) == "hash"
            }

        async def overtaken(self: object, *words: object) -> object:
            done = await original(self, *words)
            if not held:
                node.hset(keys.meta, mapping={"state": state, "epoch": 1000})
                held.append(everything())
            return done

        node.script_flush()
        node.hset(keys.meta, "nonce", "e" * 16)  # no journal knows it: the partition is to be dropped
        monkeypatch.setattr(kind, step, overtaken)
        recover(directory, tmp_path / "journal", {0, 2, 3})  # the others are not kept waiting
        assert [everything()] == held


def test_g6_a_partition_that_was_dropped_by_half_is_made_anew(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal process was killed between two of the calls that delete keys."""
    RandomJournal(tmp_path / "journal", 7, partitions=PARTITIONS).grow(30)
    recover(directory, tmp_path / "journal")
    (shard,) = directory.shards().values()
    host, _, port = shard.nodes[0].rpartition(":")
    keys = PartitionKeys(tag_of(1, PARTITIONS))
    with closing(redis.Redis(host, int(port), decode_responses=True)) as node:

        def balances() -> dict[str, dict[str, str]]:
            return {name: node.hgetall(name) for name in node.keys("balance:*" + keys.braced)}

        before, count = balances(), len(node.keys("*" + keys.braced))
        called: list[str] = []
        original = Hands._do

        async def killed(self: Hands, script: str, *words: Any) -> None:
            called.extend([script] * (self.partition == 1))
            if called.count("clear") == 4:
                raise OSError("killed")
            await original(self, script, *words)

        with monkeypatch.context() as patched:
            patched.setattr(hands, "KEYS_PER_CALL_MAX", 2)
            patched.setattr(Hands, "_do", killed)
            node.hset(keys.meta, "nonce", "e" * 16)
            node.script_flush()
            with pytest.raises(OSError, match="killed"):
                recover(directory, tmp_path / "journal")
        assert 1 < len(node.keys("*" + keys.braced)) < count
        recover(directory, tmp_path / "journal")
        assert balances() == before
