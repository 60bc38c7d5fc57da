"""`wallet-admin move`, `drain`, `rebalance`, `moves`, `resume`, `abort` on a running cluster under traffic (G11)."""

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from support.dev_process import DevCluster
from support.http_client import HttpClient
from support.traffic import RETRYABLE, Books, balances_cents, callers, finish, open_and_fund
from support.verification import verified
from unit.admin.made import answer

from wallet_engine.redis_store.topology import connect, find_primary
from wallet_engine.routing.directory import Directory, open_directory
from wallet_engine.routing.slots import partition_of, slot_range

PARTITIONS = 8
ACCOUNTS = [f"acct-{number:03d}" for number in range(80)]
FUNDED_CENTS = 100_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """Three shards with real ZooKeeper; every test leaves it whole."""
    cluster = DevCluster(tmp_path_factory.mktemp("move") / "dev", shards=3, partitions=PARTITIONS)
    try:
        yield cluster.start()
    finally:
        cluster.kill_all()


@pytest.fixture
def flags(cluster: DevCluster) -> list[str]:
    return cluster.coordination_flags()


@contextmanager
def directory_of(cluster: DevCluster) -> Iterator[Directory]:
    with closing(open_directory(cluster.state()["zookeeper"], None)) as directory:
        yield directory


def shard_of(cluster: DevCluster, partition: int) -> str:
    with directory_of(cluster) as directory:
        return directory.partition_map().shard_of(partition)


def other_shard(cluster: DevCluster, partition: int) -> str:
    return next(name for name in ("s1", "s2", "s3") if name != shard_of(cluster, partition))


def keys_on(cluster: DevCluster, shard: str, partition: int) -> list[str]:
    """Keys of the partition's slot that the shard's node holds, its own slot or not."""
    with directory_of(cluster) as directory:
        node = find_primary(directory.shards()[shard].nodes)
    assert node is not None
    slot = slot_range(partition, PARTITIONS)[0]
    with closing(connect(node.address)) as client:
        return list(client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100))


class Traffic:
    """Callers in a thread; every one of their requests has to be answered, none with a 503."""

    def __init__(self, cluster: DevCluster) -> None:
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        self.cluster = cluster
        self.books = Books(ACCOUNTS, FUNDED_CENTS, random.Random(seed))

    @contextmanager
    def running(self) -> Iterator[Books]:
        stopping, started = threading.Event(), threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._run(stopping, started)))
        thread.start()
        try:
            assert started.wait(60), "no account could be funded"
            yield self.books
        finally:
            stopping.set()
            thread.join()

    async def _run(self, stopping: threading.Event, started: threading.Event) -> None:
        async with HttpClient() as http:
            await open_and_fund(http, self.cluster.url, ACCOUNTS, FUNDED_CENTS)
            started.set()
            stop = asyncio.Event()
            paying = asyncio.create_task(callers(http, self.cluster.urls, self.books, count=16, stop=stop))
            await asyncio.to_thread(stopping.wait)
            stop.set()
            await paying
            await finish(http, self.cluster.url, self.books)
            self.balances = await balances_cents(http, self.cluster.url, ACCOUNTS)

    def check(self) -> None:
        """No request failed (G11), and every balance is what was answered."""
        answers = self.books.answers
        assert answers["success"] > 100, answers
        assert not {code: answers[code] for code in (*RETRYABLE, "no answer") if answers[code]}, answers
        assert self.balances == self.books.expected_cents()


def test_move_drain_and_rebalance_under_traffic(cluster: DevCluster, flags: list[str]) -> None:
    """G11: partitions move while callers pay, none of whose requests fails; then `verify` and every balance."""
    partition = partition_of(ACCOUNTS[0], PARTITIONS)
    source, target = shard_of(cluster, partition), other_shard(cluster, partition)
    traffic = Traffic(cluster)
    with traffic.running():
        document = answer("move", str(partition), target, *flags, "--yes")
        [moved] = document["moved"]
        assert (moved["from"], moved["to"], moved["attempts"]) == (source, target, 1)
        assert moved["digest"]
        assert shard_of(cluster, partition) == target
        assert keys_on(cluster, source, partition) == []
        assert keys_on(cluster, target, partition) != []
        assert answer("verify", *flags)["ok"]
        drained = answer("drain", "s2", *flags, "--yes")["moved"]
        print(moved, [one["freeze_ms"] for one in drained])
        with directory_of(cluster) as directory:
            assert directory.partition_map().partitions_of("s2") == ()
        balanced = answer("rebalance", *flags, "--yes")["moved"]
        with directory_of(cluster) as directory:
            counts = [len(directory.partition_map().partitions_of(name)) for name in ("s1", "s2", "s3")]
        assert sorted(counts) == [2, 3, 3]
        assert len(balanced) == 2
        assert answer("rebalance", *flags, "--yes")["moved"] == []
    assert answer("moves", *flags) == {"moves": []}
    traffic.check()
    verified(cluster)
