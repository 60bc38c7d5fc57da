"""G5, G7: only the node that a recovery has certified serves, and no longer once it was a replica.

A primary may fail over and come back before anybody has recovered the shard. It then has the data of its replica, which
may lack entries that are on disk. If these data named it as the owner, it served, and an epoch had two chains.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from lua.partition import LuaPartition
from support.clusters import RedisClusterFactory
from support.replicated import wait_until

from wallet_engine.dev.redis_node import RedisNode
from wallet_engine.redis_store.scripts import load_script

BACKLOG_BYTES_MIN = 16_384
PAY = "t T{} @bank alice 1 USD"


class Pair:
    """A primary and its replica, and a partition that a recovery of epoch 1 has certified on the primary."""

    def __init__(self, cluster: Any, client: "redis.Redis[str]") -> None:
        self.first, self.second = cluster.shard_nodes("s1")
        self.partition = LuaPartition(client, "3")
        self.meta = self.partition.keys.meta
        assert self.partition.apply(["o - alice - 0 USD"])[0] == "OK"
        self.call("claim", 1)
        seq, nonce = client.hmget(self.meta, "seq", "nonce")
        assert self.call("certify", seq, nonce, 1, self.first.node_id()) == 1
        self.same_data()

    def call(self, script: str, *words: Any) -> Any:
        return self.partition.client.eval(load_script(script).text, 1, self.meta, *words)

    def owner_at(self, node: RedisNode) -> str:
        client = node.client()
        try:
            client.execute_command("READONLY")
            return (client.hget(self.meta, "owner") or b"").decode()
        finally:
            client.close()

    def same_data(self) -> None:
        """Wait until the replica has all that was written."""
        wait_until(lambda: self.partition.client.execute_command("WAIT", 1, 100) == 1, "a replica in sync")

    def pay(self, number: int) -> list[Any]:
        return self.partition.apply([PAY.format(number)])


@pytest.fixture(params=["system", pytest.param("bundled", marks=pytest.mark.soak)])
def pair(request: pytest.FixtureRequest, redis_cluster: RedisClusterFactory) -> Iterator[Pair]:
    cluster = redis_cluster(replicas=1, bundled=request.param == "bundled", private=True)
    host, port = cluster.primary("s1").address.rsplit(":", 1)
    client = redis.Redis(host=host, port=int(port), decode_responses=True)
    try:
        yield Pair(cluster, client)
    finally:
        client.close()


def test_the_owner_is_named_on_its_own_node_alone(pair: Pair) -> None:
    assert pair.pay(1)[0] == "OK"
    pair.same_data()
    assert (pair.owner_at(pair.first), pair.owner_at(pair.second)) == (pair.first.node_id(), "")
    assert pair.call("turn", 0, "owner", "somebody")[0] == 1  # as a move does on its target
    pair.same_data()
    assert (pair.owner_at(pair.first), pair.owner_at(pair.second)) == ("somebody", "")


def test_a_replica_that_has_copied_all_data_loses_the_owner_again(pair: Pair) -> None:
    first_id = pair.first.node_id()
    pair.first.command("ACL", "SETUSER", "default", "-psync", "-sync")
    pair.first.command("CLIENT", "KILL", "TYPE", "replica")
    pair.first.command("CONFIG", "SET", "repl-backlog-size", BACKLOG_BYTES_MIN)
    pair.partition.client.set(
        f"far{{{pair.partition.keys.tag}}}", "x" * 4 * BACKLOG_BYTES_MIN
    )  # more than a partial copy has
    pair.first.command("ACL", "SETUSER", "default", "+psync", "+sync")
    wait_until(lambda: pair.owner_at(pair.second) == first_id, "a copy of all data")
    assert pair.call("witness", 1, 1, 1) == ["1", "1", "1"]
    # Again and again, as services do: the replica may lose its primary and copy everything once more.
    wait_until(
        lambda: pair.call("witness", 1, 1, 1) and pair.owner_at(pair.second) == "", "no owner on the replica"
    )
    assert pair.owner_at(pair.first) == first_id


def test_g7_who_was_a_replica_meanwhile_serves_only_when_it_was_recovered(pair: Pair) -> None:
    """Its replica lacks a payment, is promoted, and fails back: the payment is gone, the scripts are still there."""
    assert pair.pay(1)[0] == "OK"
    pair.same_data()
    pair.first.command("ACL", "SETUSER", "default", "-psync", "-sync")
    pair.first.command("CLIENT", "KILL", "TYPE", "replica")
    lost = pair.pay(2)
    assert lost[0] == "OK"
    for promoted, other in ((pair.second, pair.first), (pair.first, pair.second)):
        promoted.command("CLUSTER", "FAILOVER", "TAKEOVER")
        pair.first.command("ACL", "SETUSER", "default", "+psync", "+sync")
        wait_until(lambda p=promoted, o=other: p.is_primary() and o.replica_in_sync(), "a failover")
    found = pair.partition.client.hgetall(pair.meta)
    assert (found["state"], found["epoch"], int(found["seq"])) == ("live", "1", lost[1] - 1)
    assert pair.pay(3) == ["OWNER", ""]
    assert pair.pay(2) == ["OWNER", ""]
