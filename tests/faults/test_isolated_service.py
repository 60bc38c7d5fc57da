"""G5, G7: an old primary does not know of a failover, and a service that does not know of it either writes to it.

Both are real and disagree with the rest: the node is cut off from the cluster bus and still calls itself primary, owner
and `live`; the service has the old map. Their entries have the same sequence numbers as others on the new primary.
"""

import contextlib

import pytest
from support.dev_process import DevCluster
from support.isolated_service import IsolatedService
from support.replicated import Process, ReplicatedShard, command, wait_until
from support.verification import verified
from support.wallet_api import WalletApi, check_success, new_id

from wallet_engine.domain.errors import Outage
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.routing.slots import tag_of

PARTITIONS = 16
#: Both are on the second of three shards.
PARTITION, NEIGHBOUR = 7, 8
META = PartitionKeys(tag_of(PARTITION, PARTITIONS)).meta


@pytest.mark.timeout(150)
def test_g5_g7_what_an_isolated_service_writes_to_an_isolated_primary_is_never_answered(
    replicated: DevCluster,
) -> None:
    shard = ReplicatedShard(replicated, "s2", PARTITIONS)
    shard.wait_in_sync()
    old, new = shard.primary(), shard.replica()
    with contextlib.ExitStack() as later:
        api = later.enter_context(WalletApi(replicated.url, PARTITIONS))
        sender, receiver = api.account(PARTITION, "10.00"), api.account(PARTITION)
        neighbours = api.account(NEIGHBOUR, "10.00"), api.account(NEIGHBOUR)
        zookeeper = replicated.state()["zookeeper"]
        service = later.enter_context(IsolatedService(zookeeper, "s2", old["address"]))
        assert service.pay(sender, receiver, 100, new_id()).result(30).outcome == "+"

        cut_from_bus(replicated, old)
        later.callback(join_bus, replicated, old)
        shard.promote(new, "TAKEOVER")
        lose_journal(old)  # the journal looks up the primary again; the API keeps its connection
        wait_until(lambda: serves(new), "the promoted node is recovered")
        assert serves(old)  # by its own account; only the journal shows that it does not
        moved = new_id()
        wait_until(
            lambda: api.pay(*neighbours, "1.00", transaction_id=moved).status == 200,
            "the API has moved to the promoted node",
        )

        # The old primary decides and appends entry n + 1; no journal copy takes that entry.
        n, _ = place(old)
        lost = new_id()
        paying = service.pay(sender, receiver, 300, lost)
        wait_until(lambda: place(old)[0] == n + 1, "the isolated primary has decided")
        # The promoted node has another entry n + 1. The isolated service gets the receipt of that one too.
        api.paid(sender, receiver, "0.50")
        assert place(new)[0] == place(old)[0] == n + 1
        assert place(new) != place(old)
        api.paid(sender, receiver, "0.50")
        wait_until(lambda: service.receipted_seq(PARTITION) == n + 2, "it hears the receipts of the others")
        assert not paying.done()
        service.stop_waiting()
        with pytest.raises(Outage) as caught:
            paying.result(30)
        assert caught.value.code == "outcome_unknown"

        # Healed: the old primary's entry is gone, and the caller's retry is new to the cluster.
        join_bus(replicated, old)
        shard.wait_in_sync()
        assert shard.primary()["name"] == new["name"]
        assert shard.seqs(old) == shard.seqs(new)
        check_success(api.pay(sender, receiver, "3.00", transaction_id=lost), lost)
        assert [api.balance(account) for account in (sender, receiver)] == ["5.00", "5.00"]
    verified(replicated)


def cut_from_bus(cluster: DevCluster, node: Process) -> None:
    """The node forgets all others: it gets no news and sees itself as before. The others still know it."""
    own = command(node, "CLUSTER", "MYID")
    for other in cluster.processes("redis"):
        if (node_id := command(other, "CLUSTER", "MYID")) != own:
            command(node, "CLUSTER", "FORGET", node_id)


def join_bus(cluster: DevCluster, node: Process) -> None:
    for other in cluster.processes("redis"):
        if other["name"] != node["name"]:
            host, _, port = other["address"].rpartition(":")
            command(node, "CLUSTER", "MEET", host, port)


def lose_journal(node: Process) -> None:
    """Break every connection to the node but those that decide operations."""
    for line in str(command(node, "CLIENT", "LIST", "TYPE", "normal")).splitlines():
        client = dict(word.partition("=")[::2] for word in line.split())
        if client["cmd"] not in ("evalsha", "client|list", "client"):
            command(node, "CLIENT", "KILL", "ID", client["id"])


def serves(node: Process) -> bool:
    """Whether the partition is live there and the node its owner."""
    return bool(command(node, "HMGET", META, "owner", "state") == [command(node, "CLUSTER", "MYID"), "live"])


def place(node: Process) -> tuple[int, str]:
    """Number and nonce of the partition's last entry."""
    seq, nonce = command(node, "HMGET", META, "seq", "nonce")
    return int(seq), str(nonce)
