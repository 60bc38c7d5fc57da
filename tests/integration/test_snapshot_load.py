"""Loading a snapshot into a real Redis: what arrives is the image, whole or not at all (G6)."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from lua.partition import LuaPartition
from support.clusters import RedisClusterFactory
from unit.recovery.random_journal import RandomJournal

from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.oracle_state import redis_image
from wallet_engine.journal import snapshots
from wallet_engine.journal.reader import read
from wallet_engine.journal.snapshots import Snapshot, list_snapshots
from wallet_engine.recovery import snapshot_load
from wallet_engine.recovery.hands import Hands
from wallet_engine.recovery.snapshot_load import SnapshotLoader, newest_snapshot
from wallet_engine.recovery.snapshotting import make_snapshots
from wallet_engine.redis_store.connection import Connection, Word

EPOCH = 7


@pytest.fixture
def address(redis_cluster: RedisClusterFactory) -> str:
    return redis_cluster().primary("s1").address


@pytest.fixture
def partition(address: str) -> Iterator[LuaPartition]:
    host, port = address.rsplit(":", 1)
    with redis.Redis(host=host, port=int(port), decode_responses=True) as client:
        made = LuaPartition(client, "3")
        client.flushall()
        made.meta(state="recovering", epoch=EPOCH)
        yield made


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Snapshot]:
    monkeypatch.setattr(snapshots, "PART_FIELDS_MAX", 5)
    monkeypatch.setattr(snapshot_load, "PARTS_IN_FLIGHT_MAX", 1)
    RandomJournal(tmp_path, 11, partitions=1).grow(80)
    make_snapshots(tmp_path)
    with Snapshot(list_snapshots(tmp_path)[0][0]) as made:
        yield made


def load(
    address: str, partition: LuaPartition, snapshot: Snapshot, between: Callable[[], object] | None = None
) -> None:
    """Load the snapshot; `between` runs when some parts are in Redis and others are not."""

    async def run() -> None:
        connection = await Connection.open(address, lambda _: None)
        try:
            loader = SnapshotLoader(Hands(connection, 3, partition.keys, EPOCH))
            if between is not None:
                send = connection.send
                sent = 0

                def send_and_meddle(command: bytes, callback: Callable[[Word], None]) -> None:
                    nonlocal sent
                    sent += b"EVALSHA" in command
                    if sent == 6:
                        sent += 1
                        between()
                    send(command, callback)

                connection.send = send_and_meddle  # type: ignore[method-assign]
            await loader.load(snapshot)
        finally:
            connection.close()

    asyncio.run(run())


def test_what_is_loaded_is_the_image_and_the_next_entries_replay_on_it(
    tmp_path: Path, address: str, partition: LuaPartition, snapshot: Snapshot
) -> None:
    load(address, partition, snapshot)
    assert partition.image() == snapshot.image()
    assert partition.client.hget(partition.keys.meta, "state") == "recovering"
    journal = RandomJournal(tmp_path / "longer", 11, partitions=1)
    journal.grow(80)
    before = journal.batches[0].state.seq
    journal.grow(40)
    for record in read(tmp_path / "longer", after={0: before}):
        assert partition.replay(record.payload)[0] == "OK"
    assert partition.image() == redis_image(journal.batches[0].state)


def test_a_flush_in_the_middle_is_noticed(address: str, partition: LuaPartition, snapshot: Snapshot) -> None:
    with pytest.raises(OSError, match="was changed while"):
        load(address, partition, snapshot, partition.client.flushall)
    assert partition.client.hget(partition.keys.meta, "nonce") is None


def test_fields_that_got_lost_are_noticed(address: str, partition: LuaPartition, snapshot: Snapshot) -> None:
    """Without the check of the count, the partition would serve without these balances."""

    def lose() -> None:
        partition.client.delete(partition.keys.balance("EUR"))

    with pytest.raises(OSError, match="does not hold what was loaded"):
        load(address, partition, snapshot, lose)
    assert partition.client.hget(partition.keys.meta, "nonce") not in (None, ZERO_NONCE, snapshot.head.nonce)


def test_a_loading_that_was_overtaken_writes_nothing_more(
    address: str, partition: LuaPartition, snapshot: Snapshot
) -> None:
    """Another recovery, which took the lock later, has dropped the partition and restored it itself."""

    def overtake() -> None:
        partition.empty("live")
        partition.client.hset(partition.keys.balance("EUR"), mapping={"alice": 1})

    with pytest.raises(OSError, match="was changed while"):
        load(address, partition, snapshot, overtake)
    assert partition.client.hgetall(partition.keys.balance("EUR")) == {"alice": "1"}
    assert partition.client.hget(partition.keys.meta, "nonce") == ZERO_NONCE


@pytest.mark.parametrize(("state", "epoch"), [("live", 1), ("live", EPOCH + 1), ("recovering", EPOCH + 1)])
def test_a_partition_that_is_not_in_the_hands_of_the_recovery_is_not_loaded_into(
    address: str, partition: LuaPartition, snapshot: Snapshot, state: str, epoch: int
) -> None:
    partition.empty(state)
    partition.meta(epoch=epoch)
    partition.apply(["o - alice - 0 USD"], epoch=epoch)
    before = partition.image()
    with pytest.raises(OSError, match="partition 3 has changed"):
        load(address, partition, snapshot)
    assert partition.image() == before


def test_a_snapshot_ahead_of_the_durable_journal_is_passed_over(tmp_path: Path, snapshot: Snapshot) -> None:
    seq = snapshot.head.seq
    assert asyncio.run(newest_snapshot(tmp_path, 0, seq - 1)) is None
    found = asyncio.run(newest_snapshot(tmp_path, 0, seq))
    assert found is not None
    with found:
        assert found.head.seq == seq
