"""The commands that `doctor` prints, run in the state that printed them. None of them loses money.

`tests/unit/admin/test_mends.py` checks all commands that exist; `support/advice.py` says which test runs which.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import chdir, closing
from pathlib import Path
from typing import Any

import pytest
import redis
from support.advice import begun_advice, run_advice
from support.clusters import redis_binary
from support.dev_process import DevCluster
from support.move_run import signalled
from support.paying import cluster_directory
from support.replicated import ReplicatedShard, command, kill, supervisor_sleeps, wait_agreed, wait_until
from support.stopped import stopped
from support.wallet_api import WalletApi
from unit.admin.made import admin, answer, refusal

from wallet_engine.admin.verbs import replace_node
from wallet_engine.dev.ports import free_port
from wallet_engine.dev.redis_node import RedisNode
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.membership import ids_at
from wallet_engine.redis_store.topology import connect, slot_owners
from wallet_engine.routing.directory import JOURNALS, MAP, SERVICES, SHARDS
from wallet_engine.routing.model import Shard
from wallet_engine.routing.slots import slot_of, slot_range, tag_of

PARTITIONS = 8
HEALED_S_MAX = 60.0


class Ward:
    """Two shards with a replica each, and one account with money in every partition."""

    def __init__(self, cluster: DevCluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.shards = {name: ReplicatedShard(cluster, name, PARTITIONS) for name in ("s1", "s2")}
        with self.api() as api:
            self.accounts = [api.account(partition, "5.00") for partition in range(PARTITIONS)]

    @property
    def flags(self) -> list[str]:
        return self.cluster.coordination_flags()

    def api(self) -> WalletApi:
        return WalletApi(self.cluster.url, PARTITIONS)

    def findings(self) -> list[dict[str, Any]]:
        result = admin("doctor", "--json", *self.flags)
        assert result.exit_code in (0, 1), result.output
        return [found for found in json_of(result.stdout)["findings"] if found["severity"] != "note"]

    def finding(self, check: str, text: str) -> dict[str, Any]:
        """The finding of a check with this text, as soon as there is one."""
        deadline = time.monotonic() + HEALED_S_MAX
        while True:
            all_found = self.findings()
            for found in all_found:
                if found["check"] == check and text in found["what"]:
                    return found
            assert time.monotonic() < deadline, (check, text, all_found)
            time.sleep(0.1)

    def run(self, found: dict[str, Any], number: int = 0, **fill: str) -> str:
        """Run a command of a finding; returns what it printed."""
        status, said = run_advice(found, self.folder, self.cluster, number, **fill)
        assert status == 0, said
        assert "ERR " not in said, said
        assert "MOVED" not in said, said
        return said

    def mended(self, check: str, text: str, number: int = 0, **fill: str) -> None:
        """Wait for the finding, run its command of this number, and wait until the finding is gone."""
        found = self.finding(check, text)
        self.run(found, number, **fill)
        wait_until(
            lambda: not any(f["check"] == check and text in f["what"] for f in self.findings()),
            f"{found} is mended",
            HEALED_S_MAX,
        )

    def healthy(self) -> None:
        """Wait until doctor finds nothing; every account has its money."""
        for shard in self.shards.values():
            shard.wait_in_sync()
        deadline = time.monotonic() + HEALED_S_MAX
        while found := self.findings():
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        with self.api() as api:
            assert [api.balance(account) for account in self.accounts] == ["5.00"] * PARTITIONS
        assert answer("verify", *self.flags)["ok"]


def json_of(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)
    return document


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    folder = tmp_path_factory.mktemp("mends")
    cluster = DevCluster(folder / "dev", shards=2, replicas=1, partitions=PARTITIONS)
    try:
        cluster.start()
        yield Ward(cluster, folder)
    finally:
        cluster.kill_all()


@pytest.fixture
def ward(made: Ward, tmp_path: Path) -> Iterator[Ward]:
    """Each test must leave the cluster healthy for the next one."""
    made.folder = tmp_path
    yield made
    made.healthy()


@pytest.fixture
def new_node(tmp_path: Path) -> Iterator[RedisNode]:
    """A Redis node that belongs to no cluster."""
    node = RedisNode(redis_binary(), "s9", "new", tmp_path / "new", free_port(redis=True))
    node.start_and_wait()
    yield node
    node.kill()


def test_settings_and_memory(ward: Ward) -> None:
    node = ward.shards["s1"].replica()
    for name, value in (
        ("maxmemory-policy", "allkeys-lru"),
        ("cluster-require-full-coverage", "yes"),
        ("cluster-allow-replica-migration", "yes"),
    ):
        command(node, "CONFIG", "SET", name, value)
        ward.mended("settings", f"{node['address']} has {name} {value}")
    for short, percent, check, text in (
        (node, 110, "memory", f"{node['address']} uses"),
        (ward.shards["s1"].primary(), 90, "payments", "on s1 cannot be paid: memory"),
    ):
        used = command(short, "INFO", "memory")["used_memory"]
        command(short, "CONFIG", "SET", "maxmemory", used * percent // 100)
        found = ward.finding(check, text)
        ward.run(found, 1)  # both shards have equally many partitions: none is moved
        ward.mended(check, text)
        command(short, "CONFIG", "SET", "maxmemory", 0)
    (note,) = (
        f
        for f in answer("doctor", *ward.flags)["findings"]
        if f["check"] == "memory" and node["address"] in f["what"]
    )
    ward.run({**note, "commands": [note["mend"]]})  # its comment too
    with closing(connect(node["address"])) as client:
        assert int(client.config_get("maxmemory")["maxmemory"]) >= 4 << 30
    command(node, "CONFIG", "SET", "maxmemory", 0)


def test_slots_scripts_and_open_entries(ward: Ward) -> None:
    s1, s2 = (ward.shards[name].primary() for name in ("s1", "s2"))
    command(s1, "CLUSTER", "SETSLOT", 5, "MIGRATING", node_id(s2))
    ward.mended("slots", f"{s1['address']} has slot 5 half moved")
    command(
        s2, "CLUSTER", "SETSLOT", 7, "NODE", node_id(s2)
    )  # a slot of partition 0, but not the one with its keys
    command(s2, "CLUSTER", "BUMPEPOCH")
    wait_agreed(ward.cluster)
    ward.mended("slots", "slots 7-7 of partition 0 belong to shard s2")
    wait_agreed(ward.cluster)
    command(s1, "CLUSTER", "DELSLOTS", 9, 11)
    ward.mended("slots", "slots 9-11 of partition 0 belong to nobody")

    command(s1, "SCRIPT", "FLUSH")
    ward.mended("scripts", f"{s1['address']} lacks the engine's scripts")

    command(s1, "ZADD", PartitionKeys(tag_of(2, PARTITIONS)).open, 999999, "999999")
    ward.mended("open entries", "open entry 999999 of partition 2 is not in the stream")


def node_id(node: dict[str, Any]) -> str:
    return str(command(node, "CLUSTER", "MYID"))


def test_keys_that_are_not_the_engines_are_removed_and_no_others(ward: Ward) -> None:
    """The names would break a careless shell command or decoder; none of them hides the others."""
    node, tag = ward.shards["s1"].primary(), tag_of(0, PARTITIONS)
    stray = next(f"stray{n}" for n in range(1_000_000) if slot_of(f"stray{n}") == 6)
    with closing(connect(node["address"])) as client:
        for name in (f"intruder{{{tag}}}", f"$(touch pwned) 'x' {{{tag}}}", b"\xff\n'{%s}" % tag.encode()):
            client.set(name, "1")
        client.set(stray, "1")
        found = [f["what"] for f in ward.findings() if f["check"] == "keys"]
        assert any("3 keys on shard s1 belong to no partition: " in what for what in found)
        assert any(f"1 keys on shard s1 belong to no partition: {stray}" in what for what in found)
        ward.mended("keys", "belong to no partition")
        assert not (ward.folder / "pwned").exists()
        assert client.exists(f"meta{{{tag}}}")


def test_a_key_that_redis_would_forget(ward: Ward) -> None:
    """G14: keys with money have no time to live; one that was set by hand is found and removed."""
    tag = tag_of(0, PARTITIONS)
    with closing(connect(ward.shards["s1"].primary()["address"])) as client:
        client.set(f"intruder{{{tag}}}", "1", ex=600)  # not a key of the engine: no finding
        assert client.expire(f"balance:USD{{{tag}}}", 600)
        (found,) = [f for f in ward.findings() if f["check"] == "expiry"]
        assert (found["severity"], found["what"].split(" will ")[0]) == (
            "error",
            f"balance:USD{{{tag}}} of partition 0",
        )
        ward.mended("expiry", "balance:USD")
        assert client.ttl(f"balance:USD{{{tag}}}") == -1
        client.unlink(f"intruder{{{tag}}}")


def test_what_nobody_reaches_is_cleared(ward: Ward) -> None:
    """A promoted replica had missed a move: it has keys of a slot that it does not own, the engine's and others."""
    shard = ward.shards["s1"]
    bring(ward, 1, "s1")
    with closing(connect(shard.primary()["address"])) as client:
        client.set(f"intruder{{{tag_of(1, PARTITIONS)}}}", "1")
    wait_until(lambda: shard.seqs(shard.replica()) == shard.seqs(shard.primary()), "the replica has it too")
    said = refusal(admin("move", "1", "s2", *ward.flags, "--yes"))
    assert "keys that are not the engine's (intruder" in said
    shard.cut_replication(old := shard.primary())
    with closing(connect(old["address"])) as client:
        client.unlink(f"intruder{{{tag_of(1, PARTITIONS)}}}")
    answer("move", "1", "s2", *ward.flags, "--yes")
    wait_agreed(ward.cluster)  # a replica that is behind would take slots back
    shard.promote(shard.replica(), "TAKEOVER")
    shard.allow_replication(old)
    shard.wait_in_sync()
    ward.cluster.wait_ready()
    plan = answer("clear-leftovers", "s1", *ward.flags, "--dry-run")["plan"]
    assert f"meta{{{tag_of(1, PARTITIONS)}}}" in plan["keys"]
    assert f"intruder{{{tag_of(1, PARTITIONS)}}}" in plan["keys"]
    ward.mended("keys", f"{shard.primary()['address']} of shard s1 holds")
    bring(ward, 1, "s1")


def home_of(ward: Ward, partition: int) -> str:
    with cluster_directory(ward.cluster) as directory:
        return directory.partition_map().shard_of(partition)


def bring(ward: Ward, partition: int, shard: str) -> None:
    """Move the partition to the shard, once no partition is being recovered."""
    if home_of(ward, partition) != shard:
        wait_until(
            lambda: not any(f["check"] in ("partitions", "scripts", "payments") for f in ward.findings()),
            "all partitions serve",
            HEALED_S_MAX,
        )
        answer("move", str(partition), shard, *ward.flags, "--yes")


def test_moves_and_services(ward: Ward) -> None:
    for partition in (1, 2):  # interrupted by Ctrl-C, which frees the lock at once
        assert signalled(ward.cluster, "SIGINT", 1, "copied", "move", str(partition), "s2").returncode
    for partition, number, home in ((1, 0, "s2"), (2, 1, "s1")):
        found = ward.finding("moves", f"a move of partition {partition} is not finished")
        ward.run(found, number)
        assert home_of(ward, partition) == home
    with cluster_directory(ward.cluster) as directory:
        (name,) = directory.services()
        node = directory.tree.get(f"{SERVICES}/{name}")
        assert node is not None
        directory.tree.delete(f"{SERVICES}/{name}")
        found = ward.finding("services", "no API process is registered")
        with begun_advice(found, ward.folder, ward.cluster):
            wait_until(
                lambda: not any(f["check"] == "services" for f in ward.findings()), "one is registered"
            )
        directory.tree.create(f"{SERVICES}/{name}", node.data)


def test_a_shard_that_refuses_writes(ward: Ward) -> None:
    """The output of the two commands says why."""
    primary = ward.shards["s1"].primary()
    command(primary, "CONFIG", "SET", "min-replicas-to-write", 5)
    found = ward.finding("payments", "on s1 cannot be paid: refused: NOREPLICAS")
    said = [ward.run(found, number) for number in range(2)]
    assert "rdb_last_bgsave_status:ok" in said[0]
    assert "min_slaves_good_slaves:1" in said[1]
    command(primary, "CONFIG", "SET", "min-replicas-to-write", 0)


def test_a_journal_copy_that_died_and_an_old_map(ward: Ward) -> None:
    """Redis has newer epochs than the map, and a partition is on another shard: no command takes its slots away.

    The copy is restarted in its folder, by the command. Then the supervisor takes it back.
    """
    answer("move", "3", "s2", *ward.flags, "--yes")
    journal = ward.cluster.living("journal")
    with supervisor_sleeps(ward.cluster), cluster_directory(ward.cluster) as directory:
        kill(journal)
        good = directory.partition_map()
        old = good.with_shard(3, "s1")
        entries = [{"shard": entry.shard, "epoch": entry.epoch - 1} for entry in old.partitions]
        directory.tree.delete(MAP)
        directory.put(MAP, json.dumps({"partitions": entries}).encode())
        all_found = ward.findings()
        (slots,) = (f for f in all_found if f["check"] == "slots" and "partition 3" in f["what"])
        assert "the map at" in slots["what"]
        assert not any("SETSLOT" in f["mend"] for f in all_found)
        aged = next(f for f in all_found if f["check"] == "partitions" and "is an old one" in f["what"])
        (unready,) = (f for f in all_found if f["check"] == "services")
        ward.run(unready)
        (found,) = (f for f in all_found if f["check"] == "journal" and "journal copy j1 at" in f["what"])
        with begun_advice(found, ward.folder, ward.cluster):
            wait_until(lambda: _answers(ward), "it answers again")
            wait_until(
                lambda: all(_restored(ward, found) for found in (slots, aged)),
                "recoveries change the map meanwhile, and it is said",
            )
    ward.cluster.wait_replaced(journal["pid"])
    ward.cluster.wait_ready()
    assert home_of(ward, 3) == "s2"
    bring(ward, 3, "s1")


def _restored(ward: Ward, found: dict[str, Any]) -> bool:
    name = {"NOW.json": f"{time.monotonic()}.json"}
    return run_advice(found, ward.folder, ward.cluster, **name)[0] == 0


def _answers(ward: Ward) -> bool:
    said = admin("journal", "info", "--json", *ward.flags)  # fails while no copy is registered
    return said.exit_code == 0 and [c["reachable"] for c in json_of(said.stdout)["copies"]] == [True]


def test_a_shard_that_nobody_described(ward: Ward) -> None:
    answer("backup", ward.folder / "tree.json", *ward.flags)
    with cluster_directory(ward.cluster) as directory:
        directory.tree.delete(f"{SHARDS}/s2")
    ward.mended("map", "on shard s2, which the tree does not describe", FILE="tree.json")

    # Now no backup has the shard.
    with cluster_directory(ward.cluster) as directory:
        (known,) = (shard for shard in directory.shards().values() if shard.name == "s2")
        directory.tree.delete(f"{SHARDS}/s2")
    answer("backup", ward.folder / "without.json", *ward.flags)
    nodes = ",".join(known.nodes)
    ward.mended(
        "map",
        "on shard s2, which the tree does not describe",
        1,
        **{"FILE": "without.json", "HOST:PORT": nodes},
    )
    with cluster_directory(ward.cluster) as directory:
        assert set(directory.shards()["s2"].nodes) == set(known.nodes)


def owner_of(slot: int, address: str) -> str:
    """The id of the slot's owner, as the node at `address` sees it."""
    with closing(connect(address)) as client:
        return slot_owners(str(client.execute_command("CLUSTER", "NODES")))[0].get(slot, "")


def test_a_stranger_with_slots(ward: Ward, new_node: RedisNode) -> None:
    """It may be a shard that the cluster forgot: no command empties it, and both ways out have a command."""
    others = [node["address"] for node in ward.cluster.processes("redis")]
    for address in others:
        host, _, port = address.rpartition(":")
        new_node.command("CLUSTER", "MEET", host, port)
    wait_until(lambda: len(new_node.cluster_nodes()) == len(others) + 1, "they have met")
    live = slot_range(0, PARTITIONS)[0]
    new_id = new_node.command("CLUSTER", "MYID").decode()

    def take(slot: int) -> None:
        """Give the new node the slot, under an epoch above all others once it has heard of them."""

        def taken() -> bool:
            new_node.command("CLUSTER", "SETSLOT", slot, "NODE", new_id)
            new_node.command("CLUSTER", "BUMPEPOCH")
            return all(owner_of(slot, address) == new_id for address in others)

        wait_until(taken, f"everybody says that it has slot {slot}")

    take(7)
    found = ward.finding("strangers", f"{new_node.address} owns slots 7 and belongs to no shard")
    said = refusal(admin("add-shard", "s9", new_node.address, *ward.flags, "--yes"))
    assert f"Redis at {new_node.address} owns slots of a cluster" in said
    assert "FLUSHALL" not in said + found["mend"]
    assert "RESET" not in said + found["mend"]
    ward.mended("slots", f"slots 7-7 of partition 0 belong to node {new_id}")
    assert not any(f["check"] == "strangers" for f in ward.findings())

    take(live)  # as an unregistered shard would own it
    ward.mended("strangers", f"{new_node.address} owns slots {live}", NAME="s9")
    assert home_of(ward, 0) == "s9"
    ward.mended("slots", "slots 1-2047 of partition 0 belong to shard s1, the map says s9")
    ward.mended("keys", f"{ward.shards['s1'].replica()['address']} of shard s1 holds")
    ward.healthy()
    for words in (("drain", "s9"), ("remove-shard", "s9")):
        answer(*words, *ward.flags, "--yes")
    assert len(new_node.cluster_nodes()) == 1
    bring(ward, 0, "s1")


def test_host_names(ward: Ward, new_node: RedisNode) -> None:
    """The directory has host names, Redis reports IP addresses: no known node is taken for a stranger or a new one."""
    with cluster_directory(ward.cluster) as directory:
        before = directory.shards()
        for shard in before.values():
            named = tuple(node.replace("127.0.0.1", "localhost") for node in shard.nodes)
            directory.put_shard(Shard(shard.name, named))
        assert ward.findings() == []
        primary = ward.shards["s1"].primary()["address"]
        said = refusal(admin("add-shard", "s9", primary, *ward.flags, "--yes"))
        assert said.endswith("under another name, and belongs to the cluster already")
        assert "FLUSHALL" not in said
        replica = ward.shards["s1"].replica()["address"].replace("127.0.0.1", "localhost")
        said = refusal(admin("replace-node", replica, primary, *ward.flags, "--yes"))
        assert "under another name" in said
        answer("move", "4", "s1", *ward.flags, "--yes")
        answer("move", "4", "s2", *ward.flags, "--yes")
        answer("backup", ward.folder / "names.json", *ward.flags)
        words = ("restore", ward.folder / "names.json", "--replace", *ward.flags, "--yes")
        assert answer(*words)["moved_since"] == {}
        # A node gets its other name: nothing else changes.
        answer("replace-node", replica, replica.replace("localhost", "127.0.0.1"), *ward.flags, "--yes")
        for shard in before.values():
            directory.put_shard(shard)


def test_nodes(ward: Ward, new_node: RedisNode) -> None:
    shard, other = ward.shards["s1"], ward.shards["s2"]
    replica = shard.replica()
    command(replica, "CLUSTER", "REPLICATE", node_id(other.primary()))
    ward.mended("nodes", f"replica {replica['address']} of shard s1 follows {other.primary()['address']}")
    shard.wait_in_sync()

    shard.cut_replication(shard.primary())
    ward.run(ward.finding("nodes", f"replica {replica['address']} of shard s1 has no link"))
    shard.allow_replication(shard.primary())
    shard.wait_in_sync()

    # Its disk is lost, and it comes back on its address as a node unknown to the cluster.
    with supervisor_sleeps(ward.cluster):
        with closing(connect(replica["address"])) as client:
            client.execute_command("CLUSTER", "RESET", "HARD")
        ward.mended("nodes", f"{replica['address']} of shard s1 is a primary beside")
    shard.wait_in_sync()

    with stopped(replica):
        ward.mended("nodes", f"{replica['address']} of shard s1 does not answer", NEW=new_node.address)
    # The stopped node wakes up outside the cluster, and then replaces the node that replaced it.
    with closing(connect(replica["address"])) as client:
        client.execute_command("FLUSHALL" if is_primary(client) else "PING")
        client.execute_command("CLUSTER", "RESET", "HARD")
    answer("replace-node", new_node.address, replica["address"], *ward.flags, "--yes")


@pytest.mark.parametrize("dead", [False, True])
def test_a_replacement_that_was_interrupted(
    ward: Ward, new_node: RedisNode, monkeypatch: pytest.MonkeyPatch, dead: bool
) -> None:
    """It ended after the directory was changed: the old node is still a replica, and Redis could elect it."""
    shard = ward.shards["s1"]
    primary, replica = shard.primary(), shard.replica()
    old, new = replica["address"], new_node.address
    again = ("replace-node", old, new, *ward.flags, "--yes")
    with supervisor_sleeps(ward.cluster):
        with monkeypatch.context() as patched:
            patched.setattr(replace_node, "leave", lambda _: sys.exit(137))
            cut = admin(*again)
            assert cut.exit_code == 137, cut.output
        said = f"{old} is a replica of shard s1 and not in its list: Redis may elect it"
        found = ward.finding("strangers", said)
        assert "no shard has a node" in refusal(
            admin("replace-node", "127.0.0.1:1", new, *ward.flags, "--yes")
        )
        other = ward.shards["s2"].replica()["address"]
        assert "stands in shard" in refusal(admin("replace-node", other, new, *ward.flags, "--yes"))
        with stopped(replica) if dead else contextlib.nullcontext():
            if dead:
                answer(*again)
            else:
                ward.run(found)
            assert ids_at(old, primary["address"]) == []
            assert not any(f["check"] == "strangers" for f in ward.findings())
        assert answer(*again)["replaced"]["new"] == new  # a repeat is well
        with closing(connect(old)) as client:
            client.execute_command("CLUSTER", "RESET", "HARD")
            if is_primary(client):
                client.execute_command("FLUSHALL")
    answer("replace-node", new, old, *ward.flags, "--yes")


def is_primary(client: redis.Redis) -> bool:
    return str(client.execute_command("ROLE")[0]) == "master"


def test_a_shard_without_a_primary(ward: Ward) -> None:
    """One of two primaries hangs, so its replica cannot be elected. The command names the replica, not the primary."""
    shard = ward.shards["s1"]
    primary, replica = shard.primary(), shard.replica()
    with stopped(primary):
        found = ward.finding("nodes", "shard s1 has no primary that answers")
        assert f"-p {replica['address'].rpartition(':')[2]} CLUSTER FAILOVER TAKEOVER" in found["mend"]
        ward.run(found)
        wait_until(lambda: ward.cluster.ready(ward.cluster.url), "the promoted node serves")


def test_a_copy_that_has_not_joined(ward: Ward) -> None:
    """It waits for a recovery to end, and runs with --insecure."""
    begun = {"check": "", "commands": ["wallet-engine journal --journal-id j2 --directory j2 --insecure"]}
    with (
        cluster_directory(ward.cluster) as directory,
        directory.lock("recovery-s1"),
        begun_advice(begun, ward.folder, ward.cluster),
    ):
        ward.run(ward.finding("journal", "journal copy j2 runs and does not count"))
        assert json_of((ward.folder / "NOW.json").read_text())
        answer_of_ca(ward, "init", "ca")
        ward.run(ward.finding("access", "journal copy j2 runs with --insecure"), DIR="ca")
        assert (ward.folder / "ca" / "journal-j2.pem").exists()
        assert directory.members().copies == ("j1",)


def answer_of_ca(ward: Ward, *words: str) -> None:
    with chdir(ward.folder):
        answer("ca", *words)


def test_troubles_of_a_journal_copy(ward: Ward) -> None:
    """The test writes the troubles into the copy's registration, rather than wait for a disk to fill."""
    answer_of_ca(ward, "init", "ca")
    answer_of_ca(ward, "issue", "service", "api-1", "--ca", "ca")
    with cluster_directory(ward.cluster) as directory:
        node = directory.tree.get(f"{JOURNALS}/j1")
        assert node is not None
        troubles = [
            {"what": "disk: 9.0 GB are free, which last 9.0 h", "since_ms": 1000},
            {"what": "certificates of callers end: service/api-1 on 2026-12-01", "since_ms": 1000},
        ]
        said = json.dumps({**json.loads(node.data), "troubles": troubles}).encode()
        version = directory.tree.set(f"{JOURNALS}/j1", said, node.version)
        assert "no segment is removed" in ward.run(ward.finding("archive", "disk: 9.0 GB are free"))
        listed = ward.run(ward.finding("certificates", "service/api-1 on 2026-12-01"), DIR="ca")
        assert "service/api-1: " in listed
        directory.tree.set(f"{JOURNALS}/j1", node.data, version)


def test_a_follower_that_is_gone(ward: Ward) -> None:
    follow = {"check": "", "commands": ["wallet-engine follow --to oracle:oracle"]}
    with cluster_directory(ward.cluster) as directory:
        with begun_advice(follow, ward.folder, ward.cluster):
            wait_until(lambda: "oracle" in directory.followers.seqs(), "its place is known", HEALED_S_MAX)
        found = ward.finding("followers", "nobody follows the journal for oracle")
        with begun_advice(found, ward.folder, ward.cluster, DIR="oracle"):
            wait_until(lambda: not ward.findings(), "somebody follows", HEALED_S_MAX)
    ward.finding(
        "followers", "nobody follows the journal for oracle"
    )  # found again once its session has ended
    answer("journal", "followers", "--forget", "oracle", *ward.flags, "--yes")
