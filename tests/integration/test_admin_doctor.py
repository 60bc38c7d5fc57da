"""`doctor` on a real cluster: healthy, and with every kind of fault that can be planted, each found by its check."""

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.clusters import redis_binary
from support.patient import PARTITIONS, Patient, wait_healthy
from support.wallet_api import WalletApi
from unit.admin.made import admin, answer, refusal

from wallet_engine.admin.replace_node import join_as_replica
from wallet_engine.dev.binaries import bundled_redis
from wallet_engine.dev.ports import free_port
from wallet_engine.dev.redis_node import RedisNode
from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import find_primary
from wallet_engine.routing.model import JournalInfo, ServiceInfo
from wallet_engine.routing.slots import slot_of, tag_of


def findings(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(f["check"], f["severity"]) for f in document["findings"] if f["severity"] != "note"}


def test_a_healthy_cluster(patient: Patient) -> None:
    wait_healthy(patient)
    assert answer("doctor", *patient.flags)["healthy"] is True


def test_every_planted_fault_is_found_and_its_command_named(patient: Patient) -> None:
    """All at once, so that no finding hides another. The journal is stopped first, and mends nothing meanwhile."""
    wait_healthy(patient)
    (journal,) = patient.cluster.pids("journal")
    primary, replica = patient.addresses["primary"], patient.addresses["replica"]
    open_key = PartitionKeys(tag_of(2, PARTITIONS)).open
    other_id = str(patient.replica.execute_command("CLUSTER", "MYID"))
    epoch = patient.primary.hget(patient.meta(1), "epoch")
    owner = patient.primary.hget(patient.meta(3), "owner")
    with contextlib.ExitStack() as undo:
        os.kill(journal, signal.SIGSTOP)
        undo.callback(os.kill, journal, signal.SIGCONT)

        patient.primary.config_set("maxmemory-policy", "allkeys-lru")
        undo.callback(patient.primary.config_set, "maxmemory-policy", "noeviction")
        patient.replica.config_set("cluster-require-full-coverage", "yes")
        undo.callback(patient.replica.config_set, "cluster-require-full-coverage", "no")
        used = int(patient.replica.info("memory")["used_memory"])
        patient.replica.config_set("maxmemory", used * 10 // 9)
        undo.callback(patient.replica.config_set, "maxmemory", 0)
        patient.primary.set(f"intruder{{{tag_of(0, PARTITIONS)}}}", "1")
        undo.callback(patient.primary.delete, f"intruder{{{tag_of(0, PARTITIONS)}}}")
        patient.primary.hset(patient.meta(1), "epoch", "99")
        undo.callback(patient.primary.hset, patient.meta(1), "epoch", epoch)
        patient.primary.zadd(open_key, {"999999": 999999})
        undo.callback(patient.primary.zrem, open_key, "999999")
        patient.primary.hset(patient.meta(3), "owner", other_id)
        undo.callback(patient.primary.hset, patient.meta(3), "owner", owner)
        patient.primary.execute_command("CLUSTER", "SETSLOT", 5, "MIGRATING", _other_primary(patient))
        undo.callback(patient.primary.execute_command, "CLUSTER", "SETSLOT", 5, "STABLE")
        patient.primary.script_flush()
        patient.directory.tree.create("/wallet/moves/4", b'{"state":"copying"}')
        undo.callback(patient.directory.tree.delete, "/wallet/moves/4")
        patient.directory.register_service(ServiceInfo("ghost", "127.0.0.1:1", 1))
        undo.callback(patient.directory.tree.delete, "/wallet/services/ghost")
        patient.directory.register_journal(JournalInfo("j9", "127.0.0.1:1", "/nowhere", 1, "elsewhere"))
        undo.callback(patient.directory.tree.delete, "/wallet/journals/j9")

        document = answer("doctor", *patient.flags, status=1)
        assert document["healthy"] is False
        assert findings(document) == {
            ("settings", "error"),
            ("settings", "warning"),
            ("memory", "error"),
            ("slots", "warning"),
            ("scripts", "error"),
            ("partitions", "error"),
            ("keys", "warning"),
            ("journal", "error"),
            ("journal", "warning"),
            ("open entries", "error"),
            ("moves", "warning"),
            ("services", "warning"),
        }
        said = "\n".join(f"{f['what']} | {f['mend']}" for f in document["findings"])
        host, _, port = primary.rpartition(":")
        for expected in (
            f"{primary} has maxmemory-policy allkeys-lru",
            f"redis-cli -h {host} -p {port} CONFIG SET maxmemory-policy noeviction",
            f"{replica} has cluster-require-full-coverage yes",
            f"{replica} uses",
            f"{primary} has slot 5 half moved (migrating) | redis-cli -h {host} -p {port} CLUSTER SETSLOT 5 STABLE",
            "partition 1 on s1 is at epoch 99, the map at",
            f"partition 3 on s1 was certified for node {other_id}",
            f"intruder{{{tag_of(0, PARTITIONS)}}} | redis-cli -h {host} -p {port} UNLINK",
            "0 journal copies answer and 1 must",
            "journal copy j1 at",
            "journal copy j9 at 127.0.0.1:1 does not answer",
            "open entry 999999 of partition 2 is not in the stream",
            "wallet-admin resume 4, or wallet-admin abort 4",
            "API process ghost at 127.0.0.1:1 is not ready",
        ):
            assert expected in said, said
        assert "NOT HEALTHY" in admin("doctor", *patient.flags).stdout
    with WalletApi(patient.cluster.url, PARTITIONS) as api:
        api.account(0)  # what the finding about the scripts says
    wait_healthy(patient)


def _other_primary(patient: Patient) -> str:
    view = find_primary(patient.directory.shards()["s2"].nodes)
    assert view is not None
    return view.node_id


def test_a_key_outside_every_partition_is_named_and_no_key_of_a_partition(patient: Patient) -> None:
    wait_healthy(patient)
    stray = next(f"stray{n}" for n in range(1_000_000) if slot_of(f"stray{n}") == 6)
    patient.primary.set(stray, "1")
    try:
        (found,) = (f for f in answer("doctor", *patient.flags)["findings"] if f["check"] == "keys")
        assert found["what"] == f"1 keys on shard s1 belong to no partition of it: {stray}"
        assert found["mend"].endswith(f"UNLINK '{stray}' (each)")
    finally:
        patient.primary.delete(stray)


def test_pending_says_what_an_open_transfer_waits_for(patient: Patient) -> None:
    """The journal hangs: the debit is made, its receipt does not come, so no credit leaves."""
    (journal,) = patient.cluster.pids("journal")
    with WalletApi(patient.cluster.url, PARTITIONS) as api, ThreadPoolExecutor(1) as payer:
        ann, bob = api.account(0, "5.00"), api.account(12)
        os.kill(journal, signal.SIGSTOP)
        try:
            paying = payer.submit(api.pay, ann, bob, "1.00")
            entry = wait_pending(patient, ann)
            (transfer,) = entry["transfers"]
            assert (entry["partition"], transfer["from_account"], transfer["to_account"]) == (0, ann, bob)
            assert (transfer["amount"], transfer["currency"]) == ("1.00", "USD")
            assert transfer["waits_for"] == "the credit in partition 12 on s2"
            assert 0 <= entry["age_ms"] < 60_000
            paid = transfer["transaction_id"]
            status = answer("transfer", paid, "--from", ann, *flags_with_journal(patient))["status"]
            assert status == "pending: the money has left the payer, the credit is to come"
            assert "waits for the credit in partition 12" in admin("pending", *patient.flags).stdout
        finally:
            os.kill(journal, signal.SIGCONT)
        assert paying.result().status == 200
        assert answer("transfer", paid, "--from", ann, *patient.flags)["status"] == "paid"


def wait_pending(patient: Patient, payer: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        for entry in answer("pending", *patient.flags)["entries"]:
            if payer in {transfer["from_account"] for transfer in entry["transfers"]}:
                return dict(entry)
        assert time.monotonic() < deadline
        time.sleep(0.1)


def flags_with_journal(patient: Patient) -> list[str]:
    return [*patient.flags, "--journal", str(patient.cluster.data_dir / "journal")]


def test_partitions_and_shards(patient: Patient) -> None:
    found = answer("partitions", *patient.flags)["partitions"]
    assert [p["partition"] for p in found] == list(range(PARTITIONS))
    assert {p["state"] for p in found} == {"live"}
    assert found[0]["slots"] == [0, 1023]
    assert sum(p["balances"] for p in found) >= 2
    assert len(answer("partitions", "--shard", "s2", *patient.flags)["partitions"]) == PARTITIONS // 2
    shards = answer("shards", *patient.flags)["shards"]
    assert [(s["name"], len(s["nodes"]), s["partitions"]) for s in shards] == [("s1", 2, 8), ("s2", 2, 8)]
    assert {node["role"] for shard in shards for node in shard["nodes"]} == {"primary", "replica"}
    assert all(node["lag_bytes"] is not None for shard in shards for node in shard["nodes"])


def test_a_dead_replica_is_named(patient: Patient) -> None:
    """The supervisor would start it again at once, so it is stopped, not killed."""
    pid = next(
        p["pid"] for p in patient.cluster.processes("redis") if p["address"] == patient.addresses["replica"]
    )
    os.kill(pid, signal.SIGSTOP)
    try:
        document = answer("doctor", *patient.flags)
        (finding,) = (f for f in document["findings"] if f["check"] == "nodes")
        assert finding["what"] == f"{patient.addresses['replica']} of shard s1 does not answer"
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_healthy(patient)


def test_an_empty_partition_serves_where_it_was_moved(patient: Patient) -> None:
    """Its meta says "no currencies", which is not the same as saying nothing: the script reads it."""
    wait_healthy(patient)
    partition = next(
        p["partition"]
        for p in answer("partitions", "--shard", "s2", *patient.flags)["partitions"]
        if p["seq"] == 0
    )
    answer("move", str(partition), "s1", *patient.flags, "--yes")
    with WalletApi(patient.cluster.url, PARTITIONS) as api:
        assert api.flag(api.name(partition), "freeze").status == 404
        api.account(partition)
    assert answer("verify", *patient.flags)["ok"]


def test_a_node_is_replaced_while_payments_go_on(patient: Patient, tmp_path: Path) -> None:
    """The last test of the cluster: a replica is stopped for good, and a new node takes its place."""
    wait_healthy(patient)
    view = find_primary(patient.directory.shards()["s2"].nodes)
    assert view is not None
    (old,) = (node for node in patient.directory.shards()["s2"].nodes if node != view.address)
    new_node = RedisNode(redis_binary(), "s2", "new", tmp_path / "new", free_port(redis=True))
    new_node.start_and_wait()
    new = new_node.address
    # Older than the others: it would ask its primary for its memory, which it cannot load, for ever.
    older_node = RedisNode(bundled_redis(), "s2", "older", tmp_path / "older", free_port(redis=True))
    older_node.start_and_wait()
    older = older_node.address
    pid = next(p["pid"] for p in patient.cluster.processes("redis") if p["address"] == old)
    os.kill(pid, signal.SIGSTOP)
    try:
        for words, said in (
            (("127.0.0.1:1", new), "no shard has a node 127.0.0.1:1"),
            ((view.address, new), f"{view.address} is the primary: CLUSTER FAILOVER on"),
            ((old, "127.0.0.1:1"), "Redis at 127.0.0.1:1 does not answer"),
            ((old, view.address), "stands in shard s2"),
            ((old, older), f"Redis at {older} is version 6.2"),
        ):
            assert said in refusal(admin("replace-node", *words, *patient.flags, "--yes"))
        answer("replace-node", old, new, *patient.flags, "--dry-run")
        assert old in patient.directory.shards()["s2"].nodes
        with pytest.raises(ConfigError, match=f"{older} could not load it: the log of redis-server"):
            join_as_replica(older, [view.address], view)
        answer("replace-node", old, new, *patient.flags, "--yes")
        assert set(patient.directory.shards()["s2"].nodes) == {view.address, new}
        with WalletApi(patient.cluster.url, PARTITIONS) as api:
            api.account(12, "5.00")
        wait_healthy(patient)
        (shard,) = (s for s in answer("shards", *patient.flags)["shards"] if s["name"] == "s2")
        assert {node["address"]: node["role"] for node in shard["nodes"]} == {
            view.address: "primary",
            new: "replica",
        }
        assert answer("verify", *patient.flags)["ok"]
    finally:
        os.kill(pid, signal.SIGCONT)
        new_node.kill()
        older_node.kill()
