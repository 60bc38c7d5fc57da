"""Open groups that `wallet-admin pending` lists, on a real Redis."""

from pathlib import Path

from support.clusters import RedisClusterFactory
from unit.admin.live import LiveCluster
from unit.admin.made import answer, txid

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
    finally:
        live.close()
