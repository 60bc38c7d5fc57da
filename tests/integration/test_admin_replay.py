"""`wallet-admin replay`, `snapshot` and what `rebuild` refuses, on a real Redis."""

import hashlib
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import redis
from support.clusters import RedisClusterFactory
from unit.admin.live import LiveCluster, some_of_everything
from unit.admin.made import admin, answer, refusal

from wallet_engine.redis_store.scripts import load_script
from wallet_engine.routing.slots import tag_of


@pytest.fixture
def cluster(redis_cluster: RedisClusterFactory, tmp_path: Path) -> Iterator[LiveCluster]:
    """Two shards."""
    with some_of_everything(redis_cluster(2), tmp_path) as live:
        yield live


def test_g6_the_files_are_what_redis_holds(cluster: LiveCluster, tmp_path: Path) -> None:
    into = tmp_path / "state"
    document = answer("replay", "--map-file", cluster.map_file, "--into", into)
    assert sorted(path.name for path in into.iterdir()) == [
        *(f"partition-0000{partition}.tsv" for partition in range(3)),
        "totals.json",
    ]
    for partition in range(3):
        text = (into / f"partition-0000{partition}.tsv").read_text()
        fields = {tuple(line.split("\t")) for line in text.splitlines()}
        held = {
            (key, field, value)
            for key, image in cluster.partitions[partition].image().items()
            for field, value in image.items()
        }
        assert fields == held
        assert document["partitions"][partition]["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    totals = json.loads((into / "totals.json").read_text())
    assert {key: document[key] for key in totals} == totals
    assert totals["totals"]["USD"]["@transit"] == "0.01"
    for sums in totals["totals"].values():
        assert sum(map(Decimal, sums.values())) == 0
    again = admin("replay", "--map-file", str(cluster.map_file), "--into", str(into))
    assert "is not empty" in refusal(again)


def test_g6_an_empty_redis_gets_the_same_keys(
    cluster: LiveCluster, redis_cluster: RedisClusterFactory
) -> None:
    address = redis_cluster(1).primary("s1").address
    answer("replay", "--map-file", cluster.map_file, "--into", f"redis://{address}")
    host, port = address.rsplit(":", 1)
    with redis.Redis(host=host, port=int(port), decode_responses=True) as client:
        for partition in range(3):
            image = cluster.partitions[partition].image()
            tag = "{" + tag_of(partition, 4) + "}"
            assert {key.removesuffix(tag) for key in client.keys(f"*{tag}")} == image.keys()
            members = client.zrange(f"open{tag}", 0, -1, withscores=True)
            assert {member: f"{score:.0f}" for member, score in members} == image.pop("open", {})
            # Among them is `meta`, without a state: the copy cannot serve.
            assert {key: client.hgetall(key + tag) for key in image} == image
    again = admin("replay", "--map-file", str(cluster.map_file), "--into", f"redis://{address}")
    assert "is not empty" in refusal(again)


def test_a_past_moment(cluster: LiveCluster, tmp_path: Path) -> None:
    document = answer(
        "replay", "--map-file", cluster.map_file, "--into", tmp_path / "p1", "--partition", "1", "--at", "2"
    )
    assert [(p["partition"], p["seq"]) for p in document["partitions"]] == [(1, 2)]
    assert document["totals"]["USD"] == {"accounts": "10.00", "@bank": "-10.00"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--at", "2"), "give --partition"),
        (("--partition", "9"), "there is no partition 9"),
        (("--partition", "1", "--at", "99"), "partition 1 ends at seq 4"),
        (("--partition", "1", "--at", "0"), "the first entry of a partition has 1"),
        (("--at", "yesterday"), "neither a sequence number"),
        (("--at", "2099-01-01"), "is in the future"),
        (
            ("--at", "2001-01-01"),
            "nothing had happened by 2001-01-01T00:00:00.000Z, the first entry is of 20",
        ),
    ],
)
def test_bad_wishes_leave_nothing(
    cluster: LiveCluster, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    into = tmp_path / "into"
    result = admin("replay", "--map-file", str(cluster.map_file), "--into", str(into), *words)
    usage = said in ("give --partition", "the first entry of a partition has 1", "neither a sequence number")
    assert said in refusal(result, 2 if usage else 1)
    assert not into.exists()


def test_the_clusters_own_redis_and_a_malformed_address_are_refused(cluster: LiveCluster) -> None:
    (node, *_) = next(iter(cluster.directory.shards().values())).nodes
    for into, said, status in (
        (f"redis://{node}", "is a node of this cluster", 1),
        ("redis://there", "must be host:port", 2),
    ):
        assert said in refusal(admin("replay", "--map-file", str(cluster.map_file), "--into", into), status)


def test_snapshot_says_what_it_made_and_then_that_nothing_is_new(cluster: LiveCluster) -> None:
    first = answer("snapshot", "--map-file", cluster.map_file)
    assert first["written"] == [{"partition": p, "seq": seq} for p, seq in ((0, 2), (1, 4), (2, 3))]
    assert first["entries_folded"] == 9
    second = answer("snapshot", "--journal", cluster.writer.directory)
    assert (second["written"], second["unchanged"], second["entries_folded"]) == ([], 3, 0)


def test_rebuild_refuses_what_it_cannot_end(cluster: LiveCluster) -> None:
    flags = ("--map-file", str(cluster.map_file), "--yes")
    assert "there is no partition 4" in refusal(admin("rebuild", "4", *flags))
    lua = cluster.partitions[2]
    lua.meta(state="moving")
    assert "partition 2 is moving" in refusal(admin("rebuild", "2", *flags))
    assert lua.client.hget(lua.keys.meta, "state") == "moving"
    # A move may begin after rebuild has looked: the script itself refuses.
    assert lua.client.eval(load_script("distrust").text, 1, lua.keys.meta, "x") == [0, "moving"]
    assert lua.client.hget(lua.keys.meta, "state") == "moving"
    dry = answer("rebuild", "1", *flags, "--dry-run")
    assert dry["plan"]["seq"] == "4"
    assert cluster.partitions[1].client.hget(cluster.partitions[1].keys.meta, "state") == "live"
    # No journal process rebuilds here: the verb says so, and the partition serves nothing until one does.
    assert "not seen within" in refusal(admin("rebuild", "1", *flags, "--timeout", "0.3"))
    assert cluster.partitions[1].client.hget(cluster.partitions[1].keys.meta, "state") == "recovering"
