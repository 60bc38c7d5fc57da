"""`backup` and `restore`: ZooKeeper loses its data while all other processes go on running."""

import json
from pathlib import Path

import pytest
from support.patient import PARTITIONS, Patient, wait_healthy
from support.replicated import wait_until
from support.wallet_api import WalletApi
from unit.admin.made import admin, answer, make_map, refusal

from wallet_engine.admin.audit_log import audit_records
from wallet_engine.admin.tree_file import EPOCH_STEP
from wallet_engine.routing.directory import AUDIT, CONFIG, JOURNALS, MAP, MEMBERS, SHARDS, open_directory
from wallet_engine.routing.model import JournalInfo, PartitionEntry, PartitionMap


def delete(patient: Patient, path: str) -> None:
    for name in patient.directory.tree.children(path):
        delete(patient, f"{path}/{name}")
    if patient.directory.tree.get(path) is not None:
        patient.directory.tree.delete(path)


def test_a_lost_tree_is_made_again_under_new_epochs(patient: Patient, tmp_path: Path) -> None:
    """G5, G7: the backup is old, but the restored epochs were never used before, and nothing answered is lost."""
    wait_healthy(patient)
    file = tmp_path / "tree.json"
    with WalletApi(patient.cluster.url, PARTITIONS) as api:
        ann, bob = api.account(0, "5.00"), api.account(12)
        assert answer("backup", str(file), *patient.flags)["nodes"] > 5
        assert "exists already" in refusal(admin("backup", str(file), *patient.flags))
        before = [answer("audit", *patient.flags)["records"], patient.directory.partition_map()]
        patient.directory.raise_epochs(range(PARTITIONS))  # what happened after the backup
        api.paid(ann, bob, "1.00")
        wait_healthy(patient)
        lost = patient.directory.partition_map()

        for path in (CONFIG, MAP, SHARDS, MEMBERS, AUDIT):
            delete(patient, path)
        assert "run wallet-admin init" in refusal(admin("status", *patient.flags))
        api.paid(ann, bob, "1.00")  # payments go on with what is known

        plan = answer("restore", str(file), *patient.flags, "--dry-run")["plan"]
        assert plan["epoch"] >= lost.epoch_of(0) + EPOCH_STEP
        assert not patient.directory.initialised
        document = answer("restore", str(file), *patient.flags, "--yes")
        assert document["moved_since"] == {}
        restored = patient.directory.partition_map()
        assert restored.version < lost.version, (
            "a service that compared versions only would stay with the old map"
        )
        wait_healthy(patient)
        restored = patient.directory.partition_map()
        assert min(entry.epoch for entry in restored.partitions) >= plan["epoch"]
        epochs = {p["redis_epoch"] for p in answer("partitions", *patient.flags)["partitions"]}
        assert min(epochs) >= plan["epoch"]

        api.paid(ann, bob, "1.00")
        assert (api.balance(ann), api.balance(bob)) == ("2.00", "3.00")
    assert answer("verify", *patient.flags)["ok"]
    records = audit_records(patient.directory)
    assert [(record.verb, record.state) for record in records][-1] == ("restore", "done")
    assert len(records) == len(before[0]) + 1, "those of the backup are there, too"
    said = refusal(admin("restore", str(file), *patient.flags, "--yes"))
    assert "--replace puts the backup in its place" in said


def test_a_copy_that_vanishes_from_the_tree_goes_on_receipting(patient: Patient) -> None:
    """As when ZooKeeper lost it, and an API process has a new session before the copy has: it keeps its connection."""
    wait_healthy(patient)
    (name,) = patient.directory.journals()
    node = patient.directory.tree.get(f"{JOURNALS}/{name}")
    assert node is not None
    seen: list[dict[str, JournalInfo]] = []
    stop = patient.directory.watch_journals(seen.append)
    patient.directory.tree.delete(f"{JOURNALS}/{name}")
    wait_until(lambda: seen[-1:] == [{}], "everybody who watches is told")
    with WalletApi(patient.cluster.url, PARTITIONS) as api:
        ann, bob = api.account(0, "5.00"), api.account(12)
        for _ in range(100):
            api.paid(ann, bob, "0.01")
    patient.directory.tree.create(f"{JOURNALS}/{name}", node.data)
    wait_until(lambda: name in seen[-1], "it is there again")
    stop()
    wait_healthy(patient)


def test_an_old_map_put_back_by_hand_is_named_and_mended(patient: Patient, tmp_path: Path) -> None:
    """As after a restore of ZooKeeper's own snapshot: the map's epochs are older than those of Redis."""
    wait_healthy(patient)
    good = patient.directory.partition_map()
    file = tmp_path / "now.json"
    answer("backup", str(file), *patient.flags)
    document = json.loads(file.read_bytes())
    document["nodes"][0]["version"] += 1
    (tmp_path / "edited.json").write_text(json.dumps(document))
    said = refusal(admin("restore", tmp_path / "edited.json", "--replace", *patient.flags))
    assert "its checksum is another" in said
    moved = [PartitionEntry("s1", entry.epoch - 1) for entry in good.partitions]
    patient.directory.tree.delete(MAP)
    patient.directory.put(
        MAP,
        b'{"partitions":[%s]}'
        % b",".join(b'{"shard":"%s","epoch":%d}' % (entry.shard.encode(), entry.epoch) for entry in moved),
    )
    answer("backup", str(tmp_path / "wrong.json"), *patient.flags)
    document = answer("restore", str(tmp_path / "wrong.json"), "--replace", "--yes", *patient.flags)
    assert set(document["moved_since"]) == {
        str(p) for p in patient.directory.partition_map().partitions_of("s2")
    }
    wait_healthy(patient)
    now = patient.directory.partition_map()
    assert [entry.shard for entry in now.partitions] == [entry.shard for entry in good.partitions]
    assert min(e.epoch for e in now.partitions) >= max(e.epoch for e in good.partitions) + EPOCH_STEP
    assert answer("verify", *patient.flags)["ok"]


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    flags = ("--map-file", tmp_path / "map.json")
    make_map(tmp_path / "map.json", 2).close()
    assert "cannot read" in refusal(admin("restore", tmp_path / "none", *flags))
    (tmp_path / "text").write_text("hello")
    assert "is not a backup" in refusal(admin("restore", tmp_path / "text", *flags))
    answer("backup", str(tmp_path / "tree"), *flags)
    said = refusal(admin("restore", tmp_path / "tree", "--replace", *flags))
    assert "no Redis node of the backup answers: start Redis first" in said
    opened = open_directory(None, tmp_path / "map.json")
    opened.tree.create("/wallet/moves/1", b"")
    assert "a move is under way" in refusal(admin("restore", tmp_path / "tree", "--replace", *flags))
    opened.close()
    assert "cannot write" in refusal(admin("backup", "/no/such/folder/tree", *flags))


@pytest.mark.parametrize(
    ("version", "epochs", "newer"),
    [(5, (1, 1), True), (6, (1, 1), True), (4, (1, 1), False), (0, (1, 2), True), (0, (0, 0), False)],
)
def test_a_map_of_a_store_that_counts_anew_supersedes(
    version: int, epochs: tuple[int, int], newer: bool
) -> None:
    known = PartitionMap(5, (PartitionEntry("s1", 1), PartitionEntry("s1", 1)))
    new = PartitionMap(version, tuple(PartitionEntry("s1", epoch) for epoch in epochs))
    assert new.supersedes(known) is newer
