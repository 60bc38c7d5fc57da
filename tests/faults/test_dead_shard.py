"""G9: a shard that stands still stops nobody else, however long it does and whatever is on its way to it."""

import contextlib
import itertools
import threading
from collections.abc import Iterator

import pytest
from support.dev_process import DevCluster
from support.redis_peek import node_of, open_debits
from support.replicated import command, wait_until
from support.stopped import stopped_shard
from support.verification import verified
from support.wallet_api import WalletApi, new_id, transfer_body

from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.routing.model import spread
from wallet_engine.routing.slots import tag_of

PARTITIONS = 16
SHARDS = ("s1", "s2", "s3")
STREAM_ENTRIES_MAX = 256
#: Partitions of each shard; `s3` is the one that stands still.
P_OF = {name: spread(PARTITIONS, SHARDS).partitions_of(name) for name in SHARDS}
PAYER, HEALTHY, DEAD = P_OF["s1"][0], P_OF["s2"][0], P_OF["s3"]


@pytest.fixture(scope="module")
def cramped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """3 shards without replicas, 2 API processes, streams of 256 entries."""
    path = tmp_path_factory.mktemp("cramped") / "dev"
    extra = ("--stream-entries-max", str(STREAM_ENTRIES_MAX))
    started = DevCluster(path, shards=3, partitions=PARTITIONS, apis=2, extra=extra)
    try:
        yield started.start()
        verified(started)
    finally:
        started.kill_all()


@pytest.fixture
def api(cramped: DevCluster) -> Iterator[WalletApi]:
    cramped.wait_ready()
    with WalletApi(cramped.urls[0], PARTITIONS) as client:
        yield client


def seq_of(cluster: DevCluster, partition: int) -> int:
    meta = PartitionKeys(tag_of(partition, PARTITIONS)).meta
    return int(command(node_of(cluster, partition, PARTITIONS), "HGET", meta, "seq"))


def nothing_open(cluster: DevCluster) -> bool:
    return not any(open_debits(cluster, partition, PARTITIONS) for partition in range(PARTITIONS))


@contextlib.contextmanager
def paying(url: str, transfers: list[dict[str, str]]) -> Iterator[None]:
    """The transfers are asked for, in one request, by somebody who waits for it meanwhile."""

    def ask() -> None:
        with WalletApi(url, PARTITIONS) as another:
            another.batch(transfers)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_g9_an_open_entry_fills_no_stream(cramped: DevCluster, api: WalletApi) -> None:
    """Its partition's own traffic goes on past the limit of its stream, and so does that of who pays into it."""
    payer, near, other = api.account(PAYER, "500.00"), api.account(PAYER), api.account(HEALTHY, "500.00")
    there = [api.account(partition) for partition in DEAD]
    owed = [transfer_body(payer, to, "1.00", new_id()) for to in itertools.islice(itertools.cycle(there), 37)]
    begun = seq_of(cramped, PAYER)
    paid = 0
    with stopped_shard(cramped, "s3"), paying(cramped.urls[1], owed):
        wait_until(lambda: open_debits(cramped, PAYER, PARTITIONS), "debits are made")
        while seq_of(cramped, PAYER) < begun + 2 * STREAM_ENTRIES_MAX:
            for _ in range(8):
                api.paid(payer, near, "0.01")
            api.paid(other, near, "0.01")
            paid += 9
        assert open_debits(cramped, PAYER, PARTITIONS)
    wait_until(lambda: nothing_open(cramped), "everything has ended")
    for body in owed:
        assert api.find(payer, body["transaction_id"]).json()["status"] == "success"
    assert api.balance(near) == f"{paid / 100:.2f}"
    stream = PartitionKeys(tag_of(PAYER, PARTITIONS)).journal
    node = node_of(cramped, PAYER, PARTITIONS)
    wait_until(lambda: command(node, "XLEN", stream) < STREAM_ENTRIES_MAX, "the stream is trimmed")
    verified(cramped)
