"""G9: a shard that stands still stops nobody else, however long it does and whatever is on its way to it."""

import contextlib
import itertools
import threading
from collections.abc import Iterator

import pytest
from support.dev_process import DevCluster
from support.redis_peek import node_of, open_debits
from support.replicated import Process, command, wait_until
from support.stopped import stopped_shard
from support.verification import verified
from support.wallet_api import WalletApi, check_problem, new_id, transfer_body
from unit.admin.made import answer

from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.stream import stream_entries
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


def stream_is_whole(cluster: DevCluster, partition: int) -> bool:
    """Whether the stream is as it was written; trimmed around open entries, it has holes."""
    stream = PartitionKeys(tag_of(partition, PARTITIONS)).journal
    found = command(node_of(cluster, partition, PARTITIONS), "XRANGE", stream, "-", "+")
    seqs = [entry.seq for entry in stream_entries(found)]
    return seqs == list(range(seqs[0], seqs[-1] + 1))


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


def patiently(api: WalletApi, payer: str, to: str) -> None:
    """A fast caller fills so short a stream between two trimmings: he is told to come back, and does."""
    body = transfer_body(payer, to, "0.01", new_id())
    wait_until(lambda: api.post("/v1/wallet/balance_transfer", body).status == 200, "it is paid")


def test_g9_an_open_entry_fills_no_stream(cramped: DevCluster, api: WalletApi) -> None:
    """Its partition's own traffic goes on past the limit of its stream, and so does that of who pays into it.

    G11: the partition can be moved meanwhile, with a stream that has holes; what is open ends from there.
    """
    payer, near, other = api.account(PAYER, "500.00"), api.account(PAYER), api.account(HEALTHY, "500.00")
    there = [api.account(partition) for partition in DEAD]
    owed = [transfer_body(payer, to, "1.00", new_id()) for to in itertools.islice(itertools.cycle(there), 37)]
    begun = seq_of(cramped, PAYER)
    paid = 0
    with stopped_shard(cramped, "s3"), paying(cramped.urls[1], owed):
        wait_until(lambda: open_debits(cramped, PAYER, PARTITIONS), "debits are made")
        while seq_of(cramped, PAYER) < begun + 2 * STREAM_ENTRIES_MAX:
            for _ in range(8):
                patiently(api, payer, near)
            patiently(api, other, near)
            paid += 9
        assert open_debits(cramped, PAYER, PARTITIONS)
        assert not stream_is_whole(cramped, PAYER)
        answer("move", str(PAYER), "s2", *cramped.coordination_flags(), "--yes")
        patiently(api, payer, near)
        paid += 1
    wait_until(lambda: nothing_open(cramped), "everything has ended")
    for body in owed:
        assert api.find(payer, body["transaction_id"]).json()["status"] == "success"
    assert api.balance(near) == f"{paid / 100:.2f}"
    stream = PartitionKeys(tag_of(PAYER, PARTITIONS)).journal
    node = node_of(cramped, PAYER, PARTITIONS)
    wait_until(lambda: command(node, "XLEN", stream) < STREAM_ENTRIES_MAX, "the stream is trimmed")
    verified(cramped)


def test_g9_g14_a_full_partition_says_so_and_is_well_again_by_itself(
    cramped: DevCluster, api: WalletApi
) -> None:
    """Nothing new begins in it, towards it neither; what was begun ends; readyz and doctor name it."""
    payer, near, other = api.account(PAYER, "500.00"), api.account(PAYER), api.account(HEALTHY, "50.00")
    node = node_of(cramped, PAYER, PARTITIONS)
    begun = seq_of(cramped, PAYER)
    with trimming_refused(node):
        while (reply := api.pay(payer, near, "0.01")).status == 200:
            assert seq_of(cramped, PAYER) < begun + 3 * STREAM_ENTRIES_MAX
        check_problem(reply, 503, "journal_unavailable", transaction_id=reply.json()["transaction_id"])
        full = seq_of(cramped, PAYER)
        for sender, receiver in ((other, near), (payer, other), (payer, near)):
            body = transfer_body(sender, receiver, "0.01", new_id())
            refused = api.post("/v1/wallet/balance_transfer", body)
            check_problem(refused, 503, "journal_unavailable", transaction_id=body["transaction_id"])
        check_problem(api.open(api.name(PAYER)), 503, "journal_unavailable")
        assert api.balance(other) == "50.00"
        assert seq_of(cramped, PAYER) == full
        api.paid(other, api.account(HEALTHY), "0.01")

        for url in cramped.urls:  # one of them has been told by nobody
            wait_until(lambda url=url: "full" in conditions(url), f"{url} names the condition")
            with WalletApi(url, PARTITIONS) as one:
                ready = one.get("/readyz").json()
            assert ready["status"] == "degraded"
            assert [c["partitions"] for c in ready["conditions"] if c["condition"] == "full"] == [[PAYER]]
        findings = answer("doctor", *cramped.coordination_flags(), status=1)["findings"]
        assert [f["severity"] for f in findings if f"partition {PAYER} is FULL" in f["what"]] == ["error"]
    wait_until(lambda: api.pay(payer, near, "0.01").status == 200, "it takes new work again")
    wait_until(lambda: not any("full" in conditions(url) for url in cramped.urls), "nothing is full")


def conditions(url: str) -> set[str]:
    with WalletApi(url, PARTITIONS) as api:
        return {condition["condition"] for condition in api.get("/readyz").json()["conditions"]}


@contextlib.contextmanager
def trimming_refused(node: Process) -> Iterator[None]:
    """Redis does not run XTRIM meanwhile, so the stream of each of its partitions grows with what is paid."""
    command(node, "ACL", "SETUSER", "default", "-xtrim", "-xdel")
    try:
        yield
    finally:
        command(node, "ACL", "SETUSER", "default", "+xtrim", "+xdel")
