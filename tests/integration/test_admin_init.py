"""`wallet-admin init` on real Redis Clusters: what it checks, what it writes, and that it asks first."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.clusters import RedisClusterFactory
from unit.admin.made import admin, answer, refusal

from wallet_engine.dev.redis_cluster import RedisCluster
from wallet_engine.routing.directory import Directory, open_directory

Run = Callable[[], Directory]


def shard_flags(cluster: RedisCluster) -> list[str]:
    return [
        word
        for name, nodes in cluster.addresses().items()
        for word in ("--shard", f"{name}={','.join(nodes)}")
    ]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Run]:
    directories = []

    def open_it() -> Directory:
        directories.append(open_directory(None, tmp_path / "map.json"))
        return directories[-1]

    yield open_it
    for directory in directories:
        directory.close()


def test_a_new_cluster(redis_cluster: RedisClusterFactory, tmp_path: Path, opened: Run) -> None:
    cluster = redis_cluster(2, 1)
    flags = ("--map-file", tmp_path / "map.json", *shard_flags(cluster))
    document = answer("init", *flags, "--partitions", "8", "--retention-hours", "48", "--yes")
    nodes = cluster.addresses()
    assert document == {
        "initialised": True,
        "partitions": 8,
        "retention_hours": 48,
        "journal_quorum": 1,
        "map_version": 0,
        "shards": [
            {
                "name": "s1",
                "primary": cluster.primary("s1").address,
                "nodes": nodes["s1"],
                "partitions": [0, 1, 2, 3],
                "slots": ["0-8191"],
            },
            {
                "name": "s2",
                "primary": cluster.primary("s2").address,
                "nodes": nodes["s2"],
                "partitions": [4, 5, 6, 7],
                "slots": ["8192-16383"],
            },
        ],
    }
    directory = opened()
    assert directory.config().retention_ms == 48 * 3600 * 1000
    assert directory.partition_map().partitions_of("s2") == (4, 5, 6, 7)
    assert directory.shards()["s1"].nodes == tuple(nodes["s1"])

    before = (tmp_path / "map.json").read_bytes()
    said = refusal(admin("init", *flags, "--partitions", "16", "--yes"))
    assert "there is an initialised cluster already, which was not changed" in said
    assert (tmp_path / "map.json").read_bytes() == before


def test_it_asks_unless_told_not_to(redis_cluster: RedisClusterFactory, tmp_path: Path, opened: Run) -> None:
    words = ("init", "--map-file", tmp_path / "map.json", *shard_flags(redis_cluster()), "--partitions", "4")
    for given in ("n\n", ""):
        result = admin(*words, input=given)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert "0-16383" in result.stderr
        assert "Do it?" in result.stderr
        assert not opened().initialised
    result = admin(*words, input="y\n")
    assert result.exit_code == 0
    assert "The cluster is written down" in result.stdout
    assert opened().initialised


def test_in_zookeeper(redis_cluster: RedisClusterFactory, zookeeper_hosts: str) -> None:
    flags = ("--zookeeper", zookeeper_hosts)
    answer("init", *flags, *shard_flags(redis_cluster()), "--yes")
    assert len(answer("status", *flags)["partitions"]) == 64
    assert "initialised cluster already" in refusal(
        admin("init", *flags, *shard_flags(redis_cluster()), "--yes")
    )


def test_g13_a_tree_that_others_reach_is_closed_or_said_to_be_open(
    redis_cluster: RedisClusterFactory, zookeeper_hosts: str
) -> None:
    """0.0.0.0 leads to loopback, but `init` cannot know that it does."""
    words = ("init", "--zookeeper", zookeeper_hosts.replace("127.0.0.1", "0.0.0.0"), "--yes")
    shards = shard_flags(redis_cluster())
    assert "give --zookeeper-user and --zookeeper-password-file, or add --insecure" in refusal(
        admin(*words, *shards)
    )
    assert answer(*words, *shards, "--insecure")["initialised"]


def test_slots_that_lie_elsewhere_are_named(
    redis_cluster: RedisClusterFactory, tmp_path: Path, opened: Run
) -> None:
    cluster = redis_cluster(3)  # 5461 slots are no multiple of 256
    said = refusal(admin("init", "--map-file", tmp_path / "map.json", *shard_flags(cluster), "--yes"))
    assert (
        f"slots 5376-5460 must be on shard s2 ({cluster.primary('s2').address}) and are on shard s1" in said
    )
    assert "slots 10752-10921 must be on shard s3" in said
    assert not opened().initialised


def test_shards_that_are_no_shards(redis_cluster: RedisClusterFactory, tmp_path: Path, opened: Run) -> None:
    cluster = redis_cluster(2, 1)
    (one, its_replica), (two, _) = cluster.addresses().values()
    for shards, said in (
        ([f"s1={one},{two}"], "shard s1 has two primaries"),
        ([f"s1={its_replica}"], "shard s1 has only replicas"),
        ([f"s1={one}"], "slots 8192-16383 must be on shard s1"),
        ([f"s1={two}", f"s2={one}"], "slots 0-8191 must be on shard s1"),
    ):
        words = [word for shard in shards for word in ("--shard", shard)]
        result = admin("init", "--map-file", tmp_path / "map.json", *words, "--yes")
        assert said in refusal(result)
    assert not opened().initialised


def test_a_node_that_may_evict_money(redis_cluster: RedisClusterFactory, tmp_path: Path, opened: Run) -> None:
    """Such a node would evict balances, and money would vanish without an error."""
    cluster = redis_cluster(private=True)
    cluster.primary("s1").command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    said = refusal(admin("init", "--map-file", tmp_path / "map.json", *shard_flags(cluster), "--yes"))
    assert "CONFIG SET maxmemory-policy noeviction" in said
    assert not opened().initialised
