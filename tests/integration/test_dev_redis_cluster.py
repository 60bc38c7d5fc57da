"""Redis Clusters formed by `wallet_engine.dev` on the system's and on the bundled redis-server."""

import pytest
import redis
from support.clusters import RedisClusterFactory

from wallet_engine.dev.binaries import bundled_redis, system_redis
from wallet_engine.dev.process import wait_until
from wallet_engine.domain.limits import SLOTS
from wallet_engine.routing.slots import slot_of

both = pytest.mark.parametrize(
    "bundled", [pytest.param(False, id="system"), pytest.param(True, id="bundled", marks=pytest.mark.soak)]
)


def slots_of(words: list[str]) -> set[int]:
    owned: set[int] = set()
    for word in words[8:]:
        first, _, last = word.partition("-")
        owned.update(range(int(first), int(last or first) + 1))
    return owned


def key_in(slots: range) -> str:
    return next(key for key in map(str, range(SLOTS)) if slot_of(key) in slots)


@both
def test_slots_lie_where_the_ownership_says(redis_cluster: RedisClusterFactory, bundled: bool) -> None:
    ownership = {"a": [range(0, 100), range(8192, SLOTS)], "b": [range(100, 8192)], "spare": []}
    cluster = redis_cluster(ownership=ownership, bundled=bundled, private=True)
    for node in cluster.nodes.values():
        seen = {words[1].partition("@")[0]: slots_of(words) for words in node.cluster_nodes()}
        assert seen == {
            cluster.primary(shard).address: {slot for slots in ranges for slot in slots}
            for shard, ranges in ownership.items()
        }


@both
def test_nodes_have_the_settings_that_money_needs(redis_cluster: RedisClusterFactory, bundled: bool) -> None:
    node = redis_cluster(bundled=bundled).primary("s1")
    wanted = {
        "maxmemory-policy": "noeviction",
        "save": "",
        "appendonly": "no",
        "cluster-require-full-coverage": "no",
        "cluster-allow-replica-migration": "no",
        "bind": "127.0.0.1",
    }
    client = node.client()
    assert {name: client.config_get(name)[name] for name in wanted} == wanted
    client.close()


@both
def test_replicas_follow_and_take_over(redis_cluster: RedisClusterFactory, bundled: bool) -> None:
    cluster = redis_cluster(3, 1, bundled=bundled, private=True)
    primary = cluster.primary("s1")
    replica = next(node for node in cluster.shard_nodes("s1") if node is not primary)
    client = primary.client()
    key = key_in(cluster.ownership["s1"][0])
    client.set(key, "money")
    assert client.wait(1, 5000) == 1
    client.close()

    assert cluster.failover_possible(primary)
    primary.kill()
    assert wait_until(replica.is_primary, 15.0)
    assert replica.command("GET", key) == b"money"

    primary.start_and_wait()
    assert wait_until(primary.replica_in_sync, 15.0)
    cluster.wait_ok()


def test_a_primary_started_again_keeps_its_slots_and_its_peers(redis_cluster: RedisClusterFactory) -> None:
    cluster = redis_cluster(3, private=True)
    node = cluster.primary("s2")
    before = node.node_id()
    assert not cluster.failover_possible(node)
    node.kill()
    node.start_and_wait()
    cluster.wait_ok()
    assert node.node_id() == before
    assert node.is_primary()
    assert len(node.cluster_nodes()) == 3


def test_a_cluster_is_made_anew_at_each_start(redis_cluster: RedisClusterFactory) -> None:
    cluster = redis_cluster(2, private=True)
    ids = {node.node_id() for node in cluster.nodes.values()}
    cluster.primary("s1").command("SET", key_in(cluster.ownership["s1"][0]), "1")
    cluster.stop()
    assert not any(node.alive for node in cluster.nodes.values())

    cluster.start()
    assert not ids & {node.node_id() for node in cluster.nodes.values()}
    assert cluster.primary("s1").command("DBSIZE") == 0


def test_a_shared_cluster_is_handed_out_empty(redis_cluster: RedisClusterFactory) -> None:
    first = redis_cluster()
    first.primary("s1").command("SET", "k", "v")
    sha = first.primary("s1").command("SCRIPT", "LOAD", "return 1")
    again = redis_cluster()
    assert again is first
    assert again.primary("s1").command("DBSIZE") == 0
    with pytest.raises(redis.exceptions.NoScriptError):
        again.primary("s1").command("EVALSHA", sha, 0)


def test_it_is_known_which_binary_speaks_tls() -> None:
    """With `dev --auth` the system's nodes speak only TLS; the bundled server's stay on loopback without TLS."""
    assert system_redis().speaks_tls
    assert not bundled_redis().speaks_tls
