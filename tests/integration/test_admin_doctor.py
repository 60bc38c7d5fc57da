"""`doctor` on a real cluster: healthy, and with every kind of fault that a test can plant, each found by its check."""

import contextlib
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from support.advice import run_advice
from support.clusters import redis_binary
from support.patient import PARTITIONS, Patient, wait_healthy
from support.replicated import wait_until
from support.stopped import stopped
from support.wallet_api import WalletApi, new_id
from unit.admin.made import admin, answer, refusal

from wallet_engine.admin.diagnosis import findings as doctor_findings
from wallet_engine.admin.diagnosis import holds as overdue
from wallet_engine.admin.diagnosis import probing
from wallet_engine.admin.verbs.replace_node import join_as_replica
from wallet_engine.dev.ports import free_port
from wallet_engine.dev.redis_node import RedisNode
from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect, find_primary, view_node
from wallet_engine.routing.model import JournalInfo, ServiceInfo
from wallet_engine.routing.slots import slot_of, tag_of


def findings(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(f["check"], f["severity"]) for f in document["findings"] if f["severity"] != "note"}


@pytest.fixture(autouse=True)
def _brief_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Doctor's test writes wait only briefly: in these tests no failed write succeeds later."""
    monkeypatch.setattr(probing, "REFUSED_S_MAX", 0.3)
    monkeypatch.setattr(probing, "RECEIPT_S_MAX", 1.0)


def test_a_healthy_cluster(patient: Patient) -> None:
    """With a `max_balance` on an account too: other script text decides in its partition."""
    wait_healthy(patient)
    with WalletApi(patient.cluster.url, PARTITIONS) as api:
        limited = {"account_id": api.name(3), "currency": "USD", "max_balance": "10.00"}
        assert api.post("/v1/accounts", limited).status == 201
    checked = answer("doctor", *patient.flags)
    assert checked["healthy"] is True, checked["findings"]


def test_every_planted_fault_is_found_and_its_command_named(patient: Patient) -> None:
    """All are planted at once: no finding may hide another. The journal is stopped first, so that it mends nothing."""
    wait_healthy(patient)
    journal = patient.cluster.living("journal")
    primary, replica = patient.addresses["primary"], patient.addresses["replica"]
    open_key = PartitionKeys(tag_of(2, PARTITIONS)).open
    other_id = str(patient.replica.execute_command("CLUSTER", "MYID"))
    epoch = patient.primary.hget(patient.meta(1), "epoch")
    owner = patient.primary.hget(patient.meta(3), "owner")
    with contextlib.ExitStack() as undo:
        undo.enter_context(stopped(journal))

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
        found = findings(document)
        of_services = {("services", "warning"), ("services", "critical")}
        assert found & of_services, "critical once api-1 misses the journal, too"
        assert found - of_services == {
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
            ("payments", "critical"),
            ("payments", "error"),
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
            f"intruder{{{tag_of(0, PARTITIONS)}}} | wallet-admin clear-leftovers s1 --foreign",
            "0 journal copies answer and 1 must",
            "journal copy j1 at",
            "journal copy j9 at 127.0.0.1:1 does not answer",
            "open entry 999999 of partition 2 is not in the stream",
            "wallet-admin resume 4  # or: wallet-admin abort 4",
            "API process ghost at 127.0.0.1:1 is not ready",
            "nothing can be paid: no partition took a test write (no_receipt, recovering)",
            "partitions 0, 1, 2, 3, 4, 5, 6, 7 on s1 cannot be paid: recovering: NOSCRIPT",
            "on s2 cannot be paid: no_receipt: 0 of 1 journal copies confirmed it within 1 s",
            "not: j1 (does not answer)",
        ):
            assert expected in said, said
        assert "NOT HEALTHY: nothing can be paid; " in admin("doctor", *patient.flags).stdout
    wait_healthy(patient)  # doctor has asked for what the scripts need


def _other_primary(patient: Patient) -> str:
    view = find_primary(patient.directory.shards()["s2"].nodes)
    assert view is not None
    return view.node_id


def test_an_expired_hold_that_cannot_be_released_is_named(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its account has got money meanwhile, and both together would leave the range of exact numbers."""
    monkeypatch.setattr(overdue, "OVERDUE_MS_WARN", 1_000)
    wait_healthy(patient)
    most = "90071992547409.91"
    with WalletApi(patient.cluster.url, PARTITIONS) as api:
        account, hold_id = api.account(3), new_id()
        assert api.pay("@bank:full-1", account, most).status == 200
        hold = {"account_id": account, "amount": most, "currency": "USD", "transaction_id": hold_id}
        assert api.post("/v1/holds", {**hold, "expires_in_s": 1}).status == 201
        assert api.pay("@bank:full-2", account, "1.00").status == 200

        def named() -> str:
            found = answer("doctor", *patient.flags)["findings"]
            return "\n".join(f"{f['what']} | {f['mend']}" for f in found if f["check"] == "holds")

        wait_until(named, "no finding", 60)
        assert f"1 expired holds cannot be released, such as {hold_id} of {account}" in named()
        document = answer("doctor", *patient.flags)
        assert f"{hold_id}  {most} USD  open" in advised(
            patient, document, "holds", "1 expired holds", tmp_path
        )
        api.paid(account, "@fees", "1.00")
        wait_until(lambda: not named(), "the hold is released", 60)


def test_pending_says_what_an_open_transfer_waits_for(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal hangs: the debit is made, its receipt does not come, so no credit leaves."""
    journal = patient.cluster.living("journal")
    with WalletApi(patient.cluster.url, PARTITIONS) as api, ThreadPoolExecutor(1) as payer:
        ann, bob = api.account(0, "5.00"), api.account(12)
        with stopped(journal):
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
            monkeypatch.setattr(doctor_findings, "OPEN_AGE_MS_WARN", 1000)
            patient.primary.hset(patient.meta(3), "state", "moving")
            try:
                document = answer("doctor", *patient.flags, status=1)
            finally:
                patient.primary.hset(patient.meta(3), "state", "live")
            assert ann in advised(patient, document, "open entries", "1 entries are open for up to", tmp_path)
            moves = advised(
                patient, document, "payments", "partition 3 on s1 cannot be paid: moving", tmp_path
            )
            assert "no partition is being moved" in moves
        assert paying.result().status == 200
        assert answer("transfer", paid, "--from", ann, *patient.flags)["status"] == "paid"


def advised(patient: Patient, document: dict[str, Any], check: str, text: str, folder: Path) -> str:
    """What the command of this finding prints."""
    (found,) = (f for f in document["findings"] if f["check"] == check and text in f["what"])
    status, said = run_advice(found, folder, patient.cluster)
    assert status == 0, said
    return said


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
    """The supervisor would restart it at once, so it is stopped, not killed."""
    replica = next(
        p for p in patient.cluster.processes("redis") if p["address"] == patient.addresses["replica"]
    )
    with stopped(replica):
        document = answer("doctor", *patient.flags)
        (finding,) = (f for f in document["findings"] if f["check"] == "nodes")
        assert finding["what"] == f"{patient.addresses['replica']} of shard s1 does not answer"
    wait_healthy(patient)


def test_an_empty_partition_serves_where_it_was_moved(patient: Patient) -> None:
    """Its meta has an empty list of currencies, which the script reads, and which differs from no list."""
    wait_healthy(patient)
    partition = next(
        p["partition"]
        for p in answer("partitions", "--shard", "s2", *patient.flags)["partitions"]
        if p["balances"] == 0
    )
    answer("move", str(partition), "s1", *patient.flags, "--yes")
    with WalletApi(patient.cluster.url, PARTITIONS) as api:
        assert api.flag(api.name(partition), "freeze").status == 404
        api.account(partition)
    assert answer("verify", *patient.flags)["ok"]


def test_an_epoch_that_is_not_the_maps_is_recovered(patient: Patient) -> None:
    """No service could write to it, and none would ask for a recovery. The new epoch is above both."""
    wait_healthy(patient)
    before = patient.directory.partition_map()
    patient.primary.hset(patient.meta(1), "epoch", before.epoch_of(1) - 1)
    patient.primary.hset(patient.meta(2), "epoch", before.epoch_of(2) + 70)
    deadline = time.monotonic() + 30
    for partition, epoch in ((1, before.epoch_of(1) + 1), (2, before.epoch_of(2) + 71)):
        live = ["live", str(epoch)]
        while patient.primary.hmget(patient.meta(partition), ["state", "epoch"]) != live:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    after = patient.directory.partition_map()
    raised = {p for p in range(PARTITIONS) if after.epoch_of(p) != before.epoch_of(p)}
    assert raised == {1, 2}, "the others of the shard went on"
    with WalletApi(patient.cluster.url, PARTITIONS) as api:
        api.account(1)
        api.account(2)


def test_slots_moved_behind_the_maps_back_stop_their_partitions_only(patient: Patient) -> None:
    """As `redis-cli --cluster reshard` does. A partition that comes back is rebuilt, as half of it may be missing."""
    wait_healthy(patient)
    other = find_primary(patient.directory.shards()["s2"].nodes)
    assert other is not None
    with WalletApi(patient.cluster.url, PARTITIONS) as api, connect(other.address) as s2:
        ann, bob, cid = (api.account(partition, "5.00") for partition in (4, 5, 6))
        for account in (ann, bob, cid):
            assert api.pay(account, api.account(9), "1.00").status == 200
        before = patient.directory.partition_map()
        for partition in (4, 5):
            reshard(patient.primary, s2, slot_of(tag_of(partition, PARTITIONS)))
        deadline = time.monotonic() + 30
        while any(patient.directory.partition_map().epoch_of(p) == before.epoch_of(p) for p in (4, 5)):
            assert time.monotonic() < deadline, "the journal process has not seen it"
            time.sleep(0.02)
        assert api.pay(cid, api.account(10), "1.00").status == 200
        assert api.pay(ann, cid, "1.00").status == 503

        found = [f for f in answer("doctor", *patient.flags, status=1)["findings"] if f["check"] == "slots"]
        assert [(f["severity"], f["what"].partition(" (as")[0]) for f in found] == [
            ("error", f"slots {slot}-{slot} of partition {partition} belong to shard s2, the map says s1")
            for partition, slot in ((4, 4096), (5, 5120))
        ]
        subprocess.run(found[0]["mend"], shell=True, check=True, capture_output=True)
        while other.owns(4096):
            assert time.monotonic() < deadline, "the mending command does not mend"
            time.sleep(0.1)
            other = view_node(other.address)
            assert other is not None
        # Partition 5 comes back without its balances, and its `meta` counts an entry that the journal has not got.
        s2.hincrby(patient.meta(5), "seq", 1)
        reshard(s2, patient.primary, 5120, keys=[patient.meta(5)])
        deadline = time.monotonic() + 30
        while patient.primary.hget(patient.meta(5), "state") != "recovering":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        while api.pay(ann, cid, "1.00").status != 200:
            assert time.monotonic() < deadline, "the others of the shard go on"
        assert api.pay(bob, cid, "1.00").status == 503
        answer("rebuild", "5", "--without-newer", *patient.flags, "--yes")
        deadline = time.monotonic() + 30
        while not answer_of(patient)["healthy"]:
            assert time.monotonic() < deadline
        answer(
            "clear-leftovers", "s2", *patient.flags, "--yes"
        )  # s2 told its replica nothing when it lost the slots
        wait_healthy(patient)
        assert [api.balance(account) for account in (ann, bob, cid)] == ["3.00", "4.00", "4.00"]
        assert api.pay(ann, bob, "1.00").status == 200
    assert answer("verify", *patient.flags)["ok"]


def answer_of(patient: Patient) -> dict[str, Any]:
    result = admin("doctor", "--json", *patient.flags)
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def reshard(source: redis.Redis, target: redis.Redis, slot: int, keys: list[str] | None = None) -> None:
    """Move a slot with all its keys, or with only `keys`, and tell no other node."""
    ids = [str(client.execute_command("CLUSTER", "MYID")) for client in (source, target)]
    target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    present = source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
    where = target.connection_pool.connection_kwargs
    source.migrate(where["host"], where["port"], keys or present, 0, 5000)
    for lost in set(present) - set(keys or present):
        source.unlink(lost)
    for client in (target, source):
        client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])


def test_a_node_is_replaced_while_payments_go_on(patient: Patient, tmp_path: Path) -> None:
    """The last test on this cluster: a replica is stopped for good, and a new node replaces it."""
    wait_healthy(patient)
    view = find_primary(patient.directory.shards()["s2"].nodes)
    assert view is not None
    (old,) = (node for node in patient.directory.shards()["s2"].nodes if node != view.address)
    new_node = RedisNode(redis_binary(), "s2", "new", tmp_path / "new", free_port(redis=True))
    new_node.start_and_wait()
    new = new_node.address
    # It cannot store its primary's data, and would ask for them for ever.
    unable_node = RedisNode(redis_binary(), "s2", "unable", tmp_path / "unable", free_port(redis=True))
    unable_node.start_and_wait()
    unable = unable_node.address
    (tmp_path / "unable" / "dump.rdb" / "x").mkdir(parents=True)
    spare_node = RedisNode(redis_binary(), "s2", "spare", tmp_path / "spare", free_port(redis=True))
    spare_node.start_and_wait()
    spare = spare_node.address
    silent = next(p for p in patient.cluster.processes("redis") if p["address"] == old)
    with contextlib.ExitStack() as ending:
        ending.enter_context(stopped(silent))
        ending.callback(new_node.kill)
        ending.callback(unable_node.kill)
        ending.callback(spare_node.kill)
        for words, said in (
            (("127.0.0.1:1", new), "no shard has a node 127.0.0.1:1"),
            (
                (view.address, new),
                f"{view.address} is the primary: first give it a replica that can take over: wallet-admin add-",
            ),
            ((old, "127.0.0.1:1"), "Redis at 127.0.0.1:1 does not answer"),
            ((old, view.address), "stands in shard s2"),
        ):
            assert said in refusal(admin("replace-node", *words, *patient.flags, "--yes"))
        answer("replace-node", old, new, *patient.flags, "--dry-run")
        assert old in patient.directory.shards()["s2"].nodes
        with pytest.raises(ConfigError, match=f"{unable} could not load it: the log of redis-server"):
            join_as_replica(unable, [view.address], view)
        answer("replace-node", old, new, *patient.flags, "--yes")
        assert patient.directory.shards()["s2"].nodes.count(new) == 1
        answer("replace-node", unable, new, *patient.flags, "--yes")  # forgets it, as doctor says
        again = answer("replace-node", old, new, *patient.flags, "--yes")
        assert again["replaced"] == {"shard": "s2", "old": old, "new": new, "primary": view.address}
        said = f"no shard has a node 127.0.0.1:1, and {new} is in shard s2: perhaps this is done already"
        assert said in refusal(admin("replace-node", "127.0.0.1:1", new, *patient.flags, "--yes"))

        stranger = patient.directory.shards()["s1"].nodes[0]
        for words, said in (
            (("s9", spare), "there is no shard s9: there are s1, s2"),
            (("s2", view.address), f"{view.address} is a node of shard s2 already"),
            (("s2", stranger), f"node {stranger} stands in shard s2 and in shard s1"),
            (("s2", "127.0.0.1:1"), "Redis at 127.0.0.1:1 does not answer"),
        ):
            assert said in refusal(admin("add-replica", *words, *patient.flags, "--yes"))
        answer("add-replica", "s2", spare, *patient.flags, "--dry-run")
        join_as_replica(spare, [view.address], view)  # as if it was interrupted here
        said = f"{spare} is a replica of shard s2 and not in its list"
        wait_until(lambda: said in str(answer_of(patient)["findings"]), "the other nodes have heard of it")
        assert patient.directory.shards()["s2"].nodes.count(spare) == 0
        added = answer("add-replica", "s2", spare, *patient.flags, "--yes")["added"]
        assert added == {"shard": "s2", "replica": spare, "primary": view.address}
        assert answer("add-replica", "s2", spare, *patient.flags, "--yes")["added"] == added
        with WalletApi(patient.cluster.url, PARTITIONS) as api:
            api.account(12, "5.00")
        wait_healthy(patient)
        (shard,) = (s for s in answer("shards", *patient.flags)["shards"] if s["name"] == "s2")
        assert {node["address"]: node["role"] for node in shard["nodes"]} == {
            view.address: "primary",
            new: "replica",
            spare: "replica",
        }
        assert answer("verify", *patient.flags)["ok"]
