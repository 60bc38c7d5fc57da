"""Open groups that `wallet-admin pending` lists, on a real Redis."""

import time
from pathlib import Path

import pytest
import redis
from support.clusters import RedisClusterFactory
from unit.admin.live import LiveCluster
from unit.admin.made import admin, answer, txid

from wallet_engine.admin.diagnosis import examination
from wallet_engine.admin.diagnosis.probing import Probes
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


def test_g14_a_group_that_stays_prepared_is_named(
    redis_cluster: RedisClusterFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G14: `doctor` said nothing of it, and `pending` hid it after the clock of its node was set back."""
    monkeypatch.setattr(examination, "probe_partitions", lambda *_: Probes((), {}, 0))
    live = LiveCluster(redis_cluster(1), tmp_path, 2)
    node, tag = live.clients[0], tag_of(1, 2)
    journal, meta = f"journal{{{tag}}}", f"meta{{{tag}}}"

    def ages() -> list[int | None]:
        return [group["age_ms"] for group in answer("pending", "--map-file", live.map_file)["groups"]]

    def doctor_says() -> tuple[str, str]:
        found = answer("doctor", "--map-file", live.map_file, status=1)["findings"]
        ((severity, what),) = ((f["severity"], f["what"]) for f in found if f["check"] == "open entries")
        return severity, what

    try:
        live.apply(1, "o - alice - 0 USD", f"t {txid(1)} @bank alice 1000 USD")
        prepared = words("X1", 0, "-", [Leg("p", 0, "alice", "far", 400, "USD")])
        live.apply(1, f"p {txid(2)} alice {prepared} 0 -")
        for after_s, severity in ((-61, "warning"), (-601, "error")):
            dated(node, journal, after_s)
            assert doctor_says()[0] == severity
        assert (
            "1 parts of groups are open for up to 601 s; the oldest waits for the decision"
            in doctor_says()[1]
        )
        dated(node, journal, 3600)
        assert ages() == [None]
        node.xtrim(journal, maxlen=0)
        now_ms = int(time.time() * 1000)
        for clock_ms, said in ((now_ms, "since an unknown time"), (now_ms - 700_000, "for up to 700 s")):
            node.hset(meta, "clock", clock_ms)
            assert ages() == [None]
            assert said in doctor_says()[1]
    finally:
        live.close()


def dated(node: redis.Redis, journal: str, after_s: int) -> None:
    """Let the newest entry be written that many seconds from now."""
    ((entry_id, fields),) = node.xrevrange(journal, count=1)
    words_ = fields["header"].split(" ")
    words_[4] = str(int((time.time() + after_s) * 1000))
    node.delete(journal)
    node.xadd(journal, {**fields, "header": " ".join(words_)}, id=entry_id)
