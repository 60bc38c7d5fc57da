"""Open groups that `wallet-admin pending` lists, on a real Redis."""

import time
from pathlib import Path

from support.clusters import RedisClusterFactory
from unit.admin.live import LiveCluster
from unit.admin.made import admin, answer, txid

from wallet_engine.admin.verbs.pending import YOUNG_MS
from wallet_engine.domain.groups import Leg, words
from wallet_engine.routing.slots import slot_of, tag_of


def test_a_partition_that_has_moved_hides_no_group_of_another(
    redis_cluster: RedisClusterFactory, tmp_path: Path
) -> None:
    """Its node refuses its keys. That ended the search of the shard, and `pending` said that nothing was open."""
    live = LiveCluster(redis_cluster(1), tmp_path, 2)
    try:
        live.apply(1, "o - alice - 0 USD", f"t {txid(1)} @bank alice 1000 USD")
        prepared = words("X1", 0, "-", [Leg("p", 0, "alice", "far", 400, "USD")])
        assert live.apply(1, f"p {txid(2)} alice {prepared} 0 -") == "+"
        live.clients[0].execute_command("CLUSTER", "DELSLOTS", slot_of(tag_of(0, 2)))
        found = answer("pending", "--map-file", live.map_file)
        assert [(group["partition"], group["state"]) for group in found["groups"]] == [(1, "prepared")]
        assert found["shards_not_asked"] == ["s1"]
        time.sleep(YOUNG_MS / 1000)
        said = admin("pending", "--map-file", live.map_file).stdout.splitlines()[-1]
        assert said.startswith("0 open entries and 1 parts of groups, 1 of them for longer than 5 s")
    finally:
        live.close()


def test_g14_a_corrupt_entry_or_record_hides_no_other(
    redis_cluster: RedisClusterFactory, tmp_path: Path
) -> None:
    """G14: each is named. One of them ended the whole command, and `doctor` with it."""
    live = LiveCluster(redis_cluster(1), tmp_path, 2)
    try:
        live.apply(1, "o - alice - 0 USD", f"t {txid(1)} @bank alice 1000 USD")
        for number in (2, 3):
            live.apply(1, f"d {txid(number)} alice far 100 USD")
        prepared = words("X1", 0, "-", [Leg("p", 0, "alice", "far", 400, "USD")])
        live.apply(1, f"p {txid(4)} alice {prepared} 0 -")
        node, tag = live.clients[0], tag_of(1, 2)
        stream = node.xrange(f"journal{{{tag}}}")
        node.delete(f"journal{{{tag}}}")
        for entry_id, fields in stream:
            said = {**fields, "header": "nonsense"} if entry_id == "2-0" else fields
            node.xadd(f"journal{{{tag}}}", said, id=entry_id)
        node.hset(f"group{{{tag}}}", "broken", "nonsense")
        found = answer("pending", "--map-file", live.map_file)
        assert {e["seq"]: bool(e["unreadable"]) for e in found["entries"]} == {2: True, 3: False}
        assert sorted(g["state"] for g in found["groups"]) == ["prepared", "unreadable"]
    finally:
        live.close()
