"""`wallet-admin cluster form` on real Redis nodes: what it makes, what it leaves alone, what it refuses and why."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.certificates import Authority
from support.clusters import RedisClusterFactory, redis_binary
from support.secured import SecuredNode
from unit.admin.made import admin, answer, refusal

from wallet_engine.dev.config_files import config_path
from wallet_engine.dev.ports import free_port
from wallet_engine.dev.process import Child
from wallet_engine.dev.redis_node import START_S_MAX, RedisEndpoint, RedisNode
from wallet_engine.redis_store.forming import Member, look
from wallet_engine.redis_store.login import Login, use


class PlainNode(Child, RedisEndpoint):
    """A node with further settings, in a folder of its own."""

    def __init__(self, folder: Path, host: str, *settings: str) -> None:
        folder.mkdir()
        port = free_port(redis=True)
        where = ("--port", str(port), "--dir", str(folder))
        argv = (str(redis_binary().path), str(config_path("redis.conf")), *where, *settings)
        Child.__init__(self, folder.name, argv, folder / "redis.log")
        RedisEndpoint.__init__(self, folder.name, host, port)


@pytest.fixture(autouse=True)
def _plain_again() -> Iterator[None]:
    yield
    use(Login())


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[int], list[RedisNode]]]:
    nodes: list[RedisNode] = []

    def start(count: int) -> list[RedisNode]:
        fresh = [
            RedisNode(redis_binary(), "-", name, tmp_path / name, free_port(redis=True))
            for name in (f"n{len(nodes) + number}" for number in range(1, count + 1))
        ]
        nodes.extend(fresh)
        for node in fresh:
            node.start_and_wait()
        return fresh

    yield start
    for node in nodes:
        node.kill()


def flags(*shards: list[RedisNode]) -> list[str]:
    return [f"--shard={','.join(node.address for node in shard)}" for shard in shards]


def seen(*nodes: RedisNode) -> list[Member]:
    return [look(node.address) for node in nodes]


def test_a_cluster_is_formed_as_init_wants_it(
    started: Callable[[int], list[RedisNode]], tmp_path: Path
) -> None:
    """Three shards and 64 partitions: a third of the 16384 slots does not end where a partition ends."""
    one, two, three, replica = started(4)
    words = ("cluster", "form", *flags([one, replica], [two], [three]))
    refused = admin(*words, input="n\n")
    assert refused.exit_code == 1
    assert "0-5375" in refused.stderr
    assert "Do it?" in refused.stderr
    assert answer(*words, "--dry-run")["dry_run"]
    assert all(node.alone and not node.slots for node in seen(one, two, three, replica))

    formed = answer(*words, "--yes")
    assert formed["formed"]
    assert formed["shards"][0] == {
        "name": "s1",
        "primary": one.address,
        "replicas": [replica.address],
        "slots": ["0-5375"],
    }
    found = seen(one, two, three, replica)
    assert len({frozenset(node.owners.items()) for node in found}) == 1
    assert len(found[0].owners) == 16384
    assert [node.is_primary for node in found] == [True, True, True, False]
    assert found[3].in_sync

    assert answer(*words, "--yes") == {**formed, "formed": False}
    named = [
        f"--shard=s{number}={','.join(node.address for node in shard)}"
        for number, shard in enumerate(([one, replica], [two], [three]), 1)
    ]
    assert answer("init", "--map-file", tmp_path / "map.json", *named, "--yes")["initialised"]

    # Laid out for another number of partitions, and empty: the refusal says how to begin again.
    said = refusal(
        admin("cluster", "form", *flags([one, replica], [two], [three]), "--partitions=4", "--yes")
    )
    assert "owns slots" in said
    assert "each with an empty --dir" in said
    # With keys in it, the slots may lie there because partitions were moved: the layout is accepted.
    one.command("SET", "{06S}", "x")
    again = answer("cluster", "form", *flags([one, replica], [two], [three]), "--partitions=4", "--yes")
    assert (again["formed"], again["standing"]) == (False, "serving")


def test_what_was_interrupted_is_finished(started: Callable[[int], list[RedisNode]]) -> None:
    one, two, replica = started(3)
    one.command("CLUSTER", "SET-CONFIG-EPOCH", 1)
    one.command("CLUSTER", "ADDSLOTS", *range(100))
    one.command("CLUSTER", "MEET", replica.host, replica.port)
    words = ("cluster", "form", *flags([one, replica], [two]), "--partitions=4", "--yes")
    assert answer(*words)["formed"]
    found = seen(one, two, replica)
    assert [len(node.slots) for node in found] == [8192, 8192, 0]
    assert found[2].in_sync
    assert not answer(*words)["formed"]


def test_nodes_that_are_somebodys_are_refused(
    started: Callable[[int], list[RedisNode]], redis_cluster: RedisClusterFactory
) -> None:
    other = redis_cluster(2)
    first, _ = (nodes[0] for nodes in other.addresses().values())
    (empty,) = started(1)

    def said(*shards: str, status: int = 1) -> str:
        return refusal(admin("cluster", "form", *(f"--shard={each}" for each in shards), "--yes"), status)

    assert "knows 1 nodes that are not named" in said(first, empty.address)
    other.primary("s1").command("SET", "{06S}", "x")
    assert f"Redis at {first} holds 1 keys" in said(first, empty.address)
    assert "stands in shard s1 and in shard s2" in said(empty.address, empty.address, status=2)
    assert "are one Redis node" in said(empty.address, empty.address.replace("127.0.0.1", "localhost"))
    assert look(empty.address).alone


def test_each_closed_door_is_told_apart(tmp_path: Path, started: Callable[[int], list[RedisNode]]) -> None:
    """A node in protected mode, one with a password, one that is not in cluster mode, and TLS on one side only."""
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("node", "IP:127.0.0.1")
    (plain,) = started(1)
    locked = PlainNode(tmp_path / "locked", "127.0.0.1", "--bind", "127.0.0.1", "--requirepass", "secret")
    lone = PlainNode(tmp_path / "lone", "127.0.0.1", "--bind", "127.0.0.1", "--cluster-enabled", "no")
    secured = SecuredNode(tmp_path, "secured", authority, pair)
    shut = PlainNode(tmp_path / "shut", outer_address(), "--bind", "*")
    children: list[Child] = [locked, lone, secured, shut]
    try:
        for child in children:
            child.start()
        lone.wait_ready(lone.answers, START_S_MAX)
        for node, expected in (
            (locked, "asks for a password: give --redis-user and --redis-password-file"),
            (lone, "is not in cluster mode: set `cluster-enabled yes`"),
            (secured, "speaks TLS only: give --redis-ca"),
            (shut, "is in protected mode, and lets only its own machine in"),
        ):
            assert isinstance(node, RedisEndpoint)
            for verb in (("cluster", "form"), ("init", "--map-file", str(tmp_path / "map.json"))):
                said = refusal(admin(*verb, f"--shard=s1={node.address}", "--yes"))
                assert f"Redis at {node.address} {expected}" in said, said
        said = refusal(
            admin("cluster", "form", f"--shard={plain.address}", "--yes", f"--redis-ca={authority.cert}")
        )
        assert "speaks no TLS: leave --redis-ca out" in said
        said = refusal(admin("cluster", "form", "--shard=nobody.invalid:6379", "--yes"))
        assert "no host has the name nobody.invalid" in said
    finally:
        for child in children:
            child.kill()


def outer_address() -> str:
    """An address of this machine that is not loopback; traffic to it still goes over loopback."""
    done = subprocess.run(("hostname", "-I"), capture_output=True, text=True, check=False)
    found = [word for word in done.stdout.split() if ":" not in word]
    if not found:
        pytest.skip("this machine has no address but loopback")
    return found[0]
