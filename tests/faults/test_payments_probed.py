"""G14: `doctor` makes a test write through every partition and journal copy, and names each that does not take it.

One cluster with three journal copies, two of which must confirm; each test breaks something, runs doctor and mends it.
"""

import asyncio
import contextlib
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError
from support.dev_process import DevCluster
from support.replicated import wait_until
from support.stopped import stopped
from support.verification import verified
from support.wallet_api import WalletApi
from unit.admin.made import admin, answer

from wallet_engine.admin.diagnosis import probing
from wallet_engine.journal.link_server import LinkServer
from wallet_engine.journal.link_wire import Ask
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.directory import open_directory
from wallet_engine.routing.model import JournalInfo
from wallet_engine.routing.slots import tag_of

PARTITIONS = 8
ON_S1, ON_S2 = "partitions 0, 1, 2, 3 on s1", "partitions 4, 5, 6, 7 on s2"

Findings = list[dict[str, str]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    started = DevCluster(
        tmp_path_factory.mktemp("probed") / "dev",
        shards=2,
        partitions=PARTITIONS,
        extra=("--journals", "3"),
    )
    try:
        started.start()
        for node in started.processes("redis"):  # else one of two primaries, alone, soon answers CLUSTERDOWN
            with connect(node["address"], timeout_s=5) as client:
                client.config_set("cluster-node-timeout", 60_000)
        yield started
        healed(started)
        verified(started)
    finally:
        started.kill_all()


def doctor(cluster: DevCluster, *, healthy: bool) -> Findings:
    """Its findings, notes left out."""
    document = answer("doctor", *cluster.coordination_flags(), status=0 if healthy else 1)
    assert document["healthy"] is healthy
    return [found for found in document["findings"] if found["severity"] != "note"]


def payments(found: Findings) -> list[tuple[str, str]]:
    return [(f["severity"], f["what"]) for f in found if f["check"] == "payments"]


def healed(cluster: DevCluster) -> None:
    """Wait until doctor finds nothing any more."""

    def well() -> bool:
        return "HEALTHY: 0 errors, 0 warnings" in admin("doctor", *cluster.coordination_flags()).stdout

    wait_until(well, "doctor finds nothing")


@pytest.fixture(autouse=True)
def _healthy_before(cluster: DevCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doctor repeats a refused write for 0.3 s only: no refusal here ends by itself."""
    monkeypatch.setattr(probing, "REFUSED_S_MAX", 0.3)
    healed(cluster)


def still(cluster: DevCluster, *names: str) -> contextlib.AbstractContextManager[object]:
    """The processes of these names are stopped meanwhile."""
    return stopped(*map(cluster.living, names))


@contextlib.contextmanager
def refusing_writes(cluster: DevCluster, shard: str) -> Iterator[None]:
    """MISCONF: the node cannot save its image, because a folder stands where it must be written."""
    (node,) = (p for p in cluster.processes("redis") if p["shard"] == shard)
    client = connect(node["address"], timeout_s=5)
    obstacle = Path(client.config_get("dir")["dir"]) / client.config_get("dbfilename")["dbfilename"]
    obstacle.unlink(missing_ok=True)
    (obstacle / "in the way").mkdir(parents=True)
    try:
        client.config_set("save", "3600 1")
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "a failed save")
        with pytest.raises(ResponseError, match="MISCONF"):
            client.hset(PartitionKeys(tag_of(0 if shard == "s1" else 4, PARTITIONS)).meta, "state", "live")
        yield
    finally:
        shutil.rmtree(obstacle)
        client.config_set("save", "")
        client.close()


def ready_says(cluster: DevCluster, status: str, condition: str) -> dict[str, Any]:
    """What `readyz` says of the condition, once it has this status; nobody pays meanwhile."""
    found: dict[str, Any] = {}

    def said() -> bool:
        with WalletApi(cluster.url, PARTITIONS) as api:
            reply = api.get("/readyz")
        document = reply.json()
        assert (reply.status == 200) == document["ready"] == (document["status"] != "unready"), document
        found.update({one["condition"]: one for one in document["conditions"]})
        return bool(document["status"] == status and condition in found)

    wait_until(said, f"readyz says {status} for {condition}: {found}")
    return dict(found[condition])


def test_readyz_sees_copies_that_hang_while_nobody_pays(cluster: DevCluster) -> None:
    """A stopped process keeps its connections. With one of three copies stopped, payments go on."""
    with still(cluster, "journal-j2"):
        found = payments(doctor(cluster, healthy=True))
        assert found == []
        with still(cluster, "journal-j3"):
            said = ready_says(cluster, "unready", "no_quorum")
            assert said["partitions"] is None
            assert said["detail"] == "1 of 2 journal copies reachable, and j2, j3 connected and silent"
        cluster.wait_ready()


def test_readyz_is_degraded_while_one_shard_is_away(cluster: DevCluster) -> None:
    """503 would take every API process out of its load balancer because of one shard."""
    with still(cluster, "s1-1"):
        said = ready_says(cluster, "degraded", "unreachable")
        assert said["partitions"] == [0, 1, 2, 3]
        with still(cluster, "s2-1"):
            assert ready_says(cluster, "unready", "unreachable")
    cluster.wait_ready()


def test_each_partition_gets_an_entry_that_changes_nothing(cluster: DevCluster) -> None:
    flags = cluster.coordination_flags()
    with WalletApi(cluster.url, PARTITIONS) as api:
        ann = api.account(0, "5.00")
        before = {p["partition"]: p["seq"] for p in answer("partitions", *flags)["partitions"]}
        assert doctor(cluster, healthy=True) == []
        after = {p["partition"]: p["seq"] for p in answer("partitions", *flags)["partitions"]}
        assert all(after[p] > before[p] for p in range(PARTITIONS))
        assert api.balance(ann) == "5.00"
    shown = admin(
        "journal", "cat", "--partition", "7", "--journal", str(cluster.data_dir / "journal"), *flags
    )
    assert "probe of doctor  [applied]" in shown.stdout
    with connect(cluster.processes("redis")[0]["address"]) as client:
        memory = PartitionKeys(tag_of(0, PARTITIONS))
        fields = client.hlen(memory.seen(1))
        doctor(cluster, healthy=True)
        assert client.hlen(memory.seen(1)) == fields


def test_redis_that_refuses_writes_is_an_error_with_its_own_words(cluster: DevCluster) -> None:
    """The other shard takes payments, so the finding is not critical."""
    with refusing_writes(cluster, "s1"):
        (found,) = payments(doctor(cluster, healthy=False))
        assert found[0] == "error"
        assert found[1].startswith(f"{ON_S1} cannot be paid: refused: ")
        assert "MISCONF" in found[1]


def test_everything_refused_is_critical(cluster: DevCluster) -> None:
    with refusing_writes(cluster, "s1"), refusing_writes(cluster, "s2"):
        found = payments(doctor(cluster, healthy=False))
        assert found[0] == ("critical", "nothing can be paid: no partition took a test write (refused)")
        assert {severity for severity, _ in found[1:]} == {"error"}


def test_one_dead_copy_of_three_is_a_warning(cluster: DevCluster) -> None:
    with still(cluster, "journal-j2"):
        found = doctor(cluster, healthy=True)
        assert [(f["check"], f["severity"]) for f in found] == [("journal", "warning")]
        assert found[0]["what"].startswith("journal copy j2 at")


def test_two_dead_copies_of_three_are_critical_and_named(cluster: DevCluster) -> None:
    began_s = time.monotonic()
    with still(cluster, "journal-j2", "journal-j3"):
        found = payments(doctor(cluster, healthy=False))
        assert found[0] == ("critical", "nothing can be paid: no partition took a test write (no_receipt)")
        silent = (
            "1 of 2 journal copies confirmed it within 5 s; not: j2 (does not answer), j3 (does not answer)"
        )
        assert [what for _, what in found[1:]] == [
            f"{where} cannot be paid: no_receipt: {silent}" for where in (ON_S1, ON_S2)
        ]
        assert time.monotonic() - began_s < 60, "bounded, whatever does not answer"


def test_a_shard_that_does_not_answer(cluster: DevCluster) -> None:
    """Doctor names its partitions; those of the other shard take payments."""
    with still(cluster, "s1-1"):
        found = payments(doctor(cluster, healthy=False))
        assert found == [("error", f"{ON_S1} cannot be paid: unreachable: no primary of shard s1 answers")]


def test_a_shard_whose_cluster_is_down_is_not_called_silent(cluster: DevCluster) -> None:
    """With one of two primaries stopped, the other answers CLUSTERDOWN."""

    def said(verb: str) -> str:
        return " ".join(admin(verb, *cluster.coordination_flags()).stdout.split())

    with connect(cluster.living("s2-1")["address"], timeout_s=5) as client:
        client.config_set("cluster-node-timeout", 1000)
        try:
            with still(cluster, "s1-1"):
                wait_until(lambda: "shard s2 answers CLUSTERDOWN" in said("status"), "it is down")
                assert "shard s1 is not in this list: it does not answer" in said("pending")
                assert "shard s2 is not in this list: it answers CLUSTERDOWN" in said("pending")
        finally:
            client.config_set("cluster-node-timeout", 60_000)
    cluster.wait_ready()


class _Mute:
    """Answers as a copy that has nothing and gets nothing onto its disk."""

    journal_id = "j9"
    directory = Path("/nowhere")

    def positions(self) -> dict[int, Any]:
        return {}

    def remembers(self, ask: Ask) -> bool | None:
        return False

    async def receipted(self, asks: Sequence[Ask]) -> list[bool]:
        return [False] * len(asks)


@contextlib.contextmanager
def mute_copy() -> Iterator[str]:
    """The address of a copy that answers and confirms nothing."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    server = LinkServer(_Mute(), lambda shard, reason: None)
    try:
        host, port = run(server.start("127.0.0.1", 0))
        yield f"{host}:{port}"
        run(server.close())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_copy_that_answers_and_confirms_nothing_is_named(cluster: DevCluster) -> None:
    """Payments go on without it, so it is a warning."""
    hosts = cluster.state()["zookeeper"]
    with mute_copy() as address, contextlib.closing(open_directory(hosts, None)) as directory:
        directory.register_journal(JournalInfo("j9", address, "/nowhere", 1, "elsewhere"))
        try:
            found = payments(doctor(cluster, healthy=True))
        finally:
            directory.tree.delete("/wallet/journals/j9")
    assert found == [
        ("warning", "journal copy j9 answers, but did not confirm 8 of 8 test writes within 5 s")
    ]


def test_a_partition_under_another_epoch_is_fenced(cluster: DevCluster) -> None:
    """The copies are stopped; else they would mend it at once."""
    (node,) = (p for p in cluster.processes("redis") if p["shard"] == "s2")
    meta = PartitionKeys(tag_of(5, PARTITIONS)).meta
    with connect(node["address"]) as client, still(cluster, "journal-j1", "journal-j2", "journal-j3"):
        epoch = client.hget(meta, "epoch")
        client.hset(meta, "epoch", "99")
        found = payments(doctor(cluster, healthy=False))
        client.hset(meta, "epoch", str(epoch))
    text = "partition 5 on s2 cannot be paid: fenced: Redis serves it under epoch 99, which is not that of the map"
    assert ("error", text) in found
