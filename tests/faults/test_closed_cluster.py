"""G5, G9, G13: faults in a closed cluster, with certificates that are renewed while processes are dead.

`test_fault_list.py -k closed` covers most faults, but with one journal copy, which has no peers, and without renewals.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.dev_process import DevCluster, admin_login, json_admin
from support.paying import Paying
from support.replicated import Process, ReplicatedShard, command, kill, supervisor_sleeps, wait_until
from support.traffic import Books
from support.verification import verified

from wallet_engine.domain.principals import checked
from wallet_engine.redis_store import login
from wallet_engine.telemetry.authority import Authority

PARTITIONS = 8
COPIES = ("j1", "j2", "j3")
#: Streams are trimmed once a second: by then they no longer have the entries that a copy missed.
AWAY_S = 4.0
#: On a busy machine ZooKeeper's Java alone takes half a minute until all clients are logged in again.
SLOW_S_MAX = 120.0
#: A copy with a smaller lag has caught up: so many entries are on their way at any moment.
LAG_ENTRIES_SMALL = 100

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DevCluster]:
    flags = ("--auth", "--journals", str(len(COPIES)))
    started = DevCluster(tmp_path / "dev", shards=3, replicas=1, partitions=PARTITIONS, apis=2, extra=flags)
    try:
        started.start()
        login.use(admin_login(started))
        wait_until(lambda: close(started) == set(COPIES), "all three count", SLOW_S_MAX)
        yield started
    finally:
        login.use(login.Login())
        started.kill_all()


@pytest.fixture
def renew(cluster: DevCluster) -> Callable[[str], None]:
    authority = Authority(cluster.data_dir / "ca")

    def renewed(who: str) -> None:
        authority.issue(checked(*who.split("/")), renew=True)

    return renewed


def close(cluster: DevCluster) -> set[str]:
    """The copies that have caught up."""
    _, found = json_admin(cluster, "journal", "info")
    return {
        copy["journal_id"]
        for copy in found.get("copies", ())  # none while ZooKeeper is away
        if copy["reachable"] and (copy["lag_entries"] or 0) < LAG_ENTRIES_SMALL
    }


def goes_on(books: Books) -> None:
    before = books.answers["success"]
    wait_until(lambda: books.answers["success"] > before + 200, "payments go on", SLOW_S_MAX)


def users(node: Process) -> set[frozenset[str]]:
    """One set of words per user: the order in which Redis lists commands differs from process to process."""
    return {frozenset(line.split()) for line in command(node, "ACL", "LIST")}


def test_g9_g13_what_dies_comes_back_by_certificates_that_were_renewed_meanwhile(
    cluster: DevCluster, renew: Callable[[str], None]
) -> None:
    """In turn a journal copy, a primary, ZooKeeper, and again a copy."""
    shard = ReplicatedShard(cluster, "s1", PARTITIONS)
    wanted = users(shard.primary())
    paying = Paying(cluster)
    with paying.running() as books:
        away = cluster.living("journal-j3")
        with supervisor_sleeps(cluster):
            kill(away)
            killed_s = time.monotonic()
            renew("journal/j3")
            while time.monotonic() - killed_s < AWAY_S:
                goes_on(books)
        cluster.wait_replaced(away["pid"])
        wait_until(lambda: "j3" in close(cluster), "the copy has caught up", SLOW_S_MAX)

        for who in ("journal/j1", "journal/j2", "service/api-1", "service/api-2"):
            renew(who)
        primary, replica = shard.primary(), shard.replica()
        kill(primary)
        shard.wait_promoted(replica)
        goes_on(books)
        shard.wait_in_sync()
        assert users(shard.primary()) == users(shard.replica()) == wanted

        zookeeper = cluster.living("zookeeper")
        kill(zookeeper)
        goes_on(books)
        cluster.wait_replaced(zookeeper["pid"])
        wait_until(lambda: close(cluster) == set(COPIES), "all three are registered", SLOW_S_MAX)
        with supervisor_sleeps(cluster):
            cluster.kill("journal-j1")
            goes_on(books)
    paying.check()
    wait_until(lambda: close(cluster) == set(COPIES), "all three hold everything", SLOW_S_MAX)
    verified(cluster)
    status, compared = json_admin(cluster, "journal", "verify")
    assert (status, compared["same"]) == (0, True), compared
