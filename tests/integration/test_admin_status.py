"""`wallet-admin status`: what answers, and what does not."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.clusters import RedisClusterFactory
from unit.admin.live import LiveCluster
from unit.admin.made import admin, answer, make_map, register_journal

from wallet_engine.admin.verbs.status import VERSIONS_DIFFER
from wallet_engine.app.versions import OWN_VERSIONS
from wallet_engine.domain.entry import RULES
from wallet_engine.routing.following import FollowerInfo
from wallet_engine.routing.model import ServiceInfo, Shard


@pytest.fixture
def cluster(redis_cluster: RedisClusterFactory, tmp_path: Path) -> Iterator[LiveCluster]:
    """Two shards with a replica each, and four partitions. 0 and 2 have entries; the journal lags by two in 2."""
    live = LiveCluster(redis_cluster(2, 1), tmp_path, 4)
    for _ in range(3):
        live.apply(0, "o - alice - 0 USD", "o - bob - 0 USD", "t 1 @bank alice 100 USD")
    live.apply(0, "d 2 alice far 5 USD")
    live.apply(2, "o - carol - 0 USD")
    for number in (3, 4):
        live.apply(2, f"t {number} @bank carol 1 USD", drain=False)
    live.directory.register_service(ServiceInfo("api-1", "127.0.0.1:8080", os.getpid()))
    yield live
    live.close()


def test_a_healthy_cluster(cluster: LiveCluster) -> None:
    document = answer("status", "--map-file", cluster.map_file)
    assert document["config"] == {"partitions": 4, "retention_ms": 86_400_000, "journal_quorum": 1}
    assert [
        (p["partition"], p["shard"], p["epoch"], p["seq"], p["state"], p["open_entries"])
        for p in document["partitions"]
    ] == [
        (0, "s1", 1, 2, "live", 1),
        (1, "s1", 1, 0, "live", 0),
        (2, "s2", 1, 3, "live", 0),
        (3, "s2", 1, 0, "live", 0),
    ]
    for shard, stored in zip(document["shards"], cluster.directory.shards().values(), strict=True):
        assert shard["name"] == stored.name
        assert shard["primary"] == stored.nodes[0]
        assert [node["address"] for node in shard["nodes"]] == list(stored.nodes)
        assert [node["role"] for node in shard["nodes"]] == ["primary", "replica"]
        assert all(node["reachable"] and node["used_memory_bytes"] > 100_000 for node in shard["nodes"])
    (journal,) = document["journals"]
    assert journal["journal_id"] == "j1"
    assert journal["lag_entries"] == 2
    assert journal["durable_seqs"] == {"0": 2, "2": 1}
    assert document["services"] == [
        {"service_id": "api-1", "address": "127.0.0.1:8080", "pid": os.getpid(), "versions": None}
    ]
    assert document["warnings"] == []

    cluster.drain(2)
    assert answer("status", "--map-file", cluster.map_file)["journals"][0]["lag_entries"] == 0


def test_what_a_copy_has_on_disk_is_no_lag_while_it_is_silent_about_it(cluster: LiveCluster) -> None:
    """During a recovery a copy gives no receipts; all entries of the partition used to be shown as its lag."""
    cluster.silent.add(0)
    (journal,) = answer("status", "--map-file", cluster.map_file)["journals"]
    assert journal["durable_seqs"] == {"0": 2, "2": 1}
    assert (journal["lag_entries"], journal["silent_partitions"]) == (2, [0])
    assert "! journal j1 gives no receipts in partitions 0" in admin(
        "status", "--map-file", cluster.map_file
    ).stdout.replace("\n", " ")


def test_people_see_it_in_80_columns(cluster: LiveCluster) -> None:
    nodes = cluster.directory.shards()["s2"].nodes
    for verb, texts in (
        ("status", (*nodes, "2 entries", "api-1", "live", "MiB")),
        ("shards", (*nodes, "primary", "replica", "MiB")),
        ("partitions", ("12288-16383", "live")),
    ):
        result = admin(verb, "--map-file", cluster.map_file, env={"COLUMNS": "80"})
        assert result.exit_code == 0
        assert max(map(len, result.stdout.splitlines())) <= 80
        assert [text for text in (*texts, "…") if text not in result.stdout] == ["…"], result.stdout


def test_an_upgrade_that_has_not_ended_is_seen(cluster: LiveCluster) -> None:
    follower = FollowerInfo("f1", "oracle", "", 1, "h1", versions=OWN_VERSIONS)
    cluster.directory.following.register(follower)
    document = answer("status", "--map-file", cluster.map_file)
    assert [each["versions"]["entries"] for each in document["followers"]] == [RULES]
    assert document["warnings"] == [f"{VERSIONS_DIFFER}: see the runbook Upgrade"]
    said = " ".join(admin("status", "--map-file", cluster.map_file).stdout.split())
    assert f"{OWN_VERSIONS}: f1 for oracle" in said
    assert "of an older version: j1, api-1" in said


def test_what_serves_not_is_said(cluster: LiveCluster) -> None:
    cluster.partitions[1].meta(state="recovering")
    cluster.clients[3].delete(cluster.partitions[3].keys.meta)
    cluster.partitions[0].meta(epoch=2)
    document = answer("status", "--map-file", cluster.map_file)
    assert [p["state"] for p in document["partitions"]] == ["live", "recovering", "live", "absent"]
    assert [p["redis_epoch"] for p in document["partitions"]] == [2, 1, 1, 0]
    assert document["warnings"] == ["partitions not serving: 1, 3"]
    assert "live under epoch 2" in admin("status", "--map-file", cluster.map_file).stdout


def test_a_dead_shard_is_shown_and_is_no_failure(redis_cluster: RedisClusterFactory, tmp_path: Path) -> None:
    redis = redis_cluster()
    shards = [Shard("s1", tuple(redis.addresses()["s1"])), Shard("s2", ("127.0.0.1:1", "127.0.0.1:2"))]
    directory = make_map(tmp_path / "map.json", 2, shards)
    register_journal(directory, tmp_path)
    document = answer("status", "--map-file", tmp_path / "map.json")
    assert [shard["reachable"] for shard in document["shards"]] == [True, False]
    assert document["shards"][1]["primary"] is None
    assert "refused" in document["shards"][1]["nodes"][0]["error"]
    assert [(p["state"], p["seq"]) for p in document["partitions"]] == [("absent", 0), ("unreachable", None)]
    (journal,) = document["journals"]
    assert (journal["reachable"], journal["lag_entries"], journal["host"]) == (
        False,
        None,
        socket.gethostname(),
    )
    assert document["warnings"] == [
        "shard s2 has no primary that answers",
        "partitions not serving: 0",
        "0 journal copies answer, 1 are needed: no transfer is answered until wallet-engine journal runs",
        "journal j1 at 127.0.0.1:1 does not answer",
        "no API process is registered: start wallet-engine serve",
    ]
    result = admin("status", "--map-file", tmp_path / "map.json")
    assert result.exit_code == 0
    assert result.stdout.count("does not answer") == 4
    assert "! shard s2 has no primary that answers" in result.stdout
    directory.close()


def test_nothing_is_cut_where_there_is_little_room(
    cluster: LiveCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for verb in ("status", "shards"):
        shown = admin(verb, "--map-file", cluster.map_file).stdout
        assert "…" not in shown
    addresses = [node for shard in cluster.directory.shards().values() for node in shard.nodes]
    assert all(address in admin("status", "--map-file", cluster.map_file).stdout for address in addresses)


@pytest.mark.parametrize(
    "verb", ["top", "status", *(pytest.param(verb, marks=pytest.mark.soak) for verb in ("shards", "pending"))]
)
def test_it_is_shown_again_until_it_is_interrupted(cluster: LiveCluster, verb: str) -> None:
    often = ["--every", "0.2"] if verb == "top" else ["--watch", "0.2"]
    program = [sys.executable, "-c", "from wallet_engine.admin.cli import main; main()"]
    some = ["--older-than", "3600"] if verb == "pending" else []  # this cluster's ids are not valid ids
    words = [*program, verb, *often, *some, "--json", "--map-file", str(cluster.map_file)]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a process under nohup ignores Ctrl-C
    with subprocess.Popen(words, stdout=subprocess.PIPE, preexec_fn=heard) as watching:
        assert watching.stdout is not None
        looks = [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.send_signal(signal.SIGINT)
        watching.stdout.read()
    assert watching.returncode == 0
    assert all(look and "error" not in look for look in looks)


def test_top_tells_what_was_written_between_two_looks(cluster: LiveCluster) -> None:
    flags = ["--map-file", cluster.map_file]
    document = answer("top", "--once", "--every", "0.2", *flags)
    assert [(shard["live"], shard["entries_per_s"]) for shard in document["shards"]] == [(2, 0.0), (2, 0.0)]
    assert document["shards"][0]["open_entries"] == 1
    assert "entries/s" in admin("top", "--once", "--every", "0.2", *flags).stdout
