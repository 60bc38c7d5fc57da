"""Three journal copies, two of which must receipt (G5, G9): one dies, two die, one loses its disk and is replaced."""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.advice import begun_advice
from support.http_client import HttpClient, Reply
from support.journal_copies import (
    BIN,
    admin,
    entries,
    folder,
    lags,
    settle,
    successes,
    traffic,
    wait_for,
)
from support.pulse import PulsedBooks, longest_gap_s
from support.replicated import kill, supervisor_sleeps
from support.traffic import open_and_fund
from support.verification import verified

from wallet_engine.journal.receipts_tracker import ReceiptTracker
from wallet_engine.recovery.fellows import COUNCIL_S
from wallet_engine.routing.directory import CONFIG, MAP, MEMBERS, SHARDS, open_directory

FUNDED_CENTS = 100_000
#: A caller's pause after each request, where it does not matter how much a copy misses.
PAUSE_S = 0.02


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_g5_g9_copies_die_return_and_are_replaced(dev_cluster: Any) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed={seed}")
    cluster = dev_cluster(shards=2, partitions=4, extra=("--journals", "3"))
    books = PulsedBooks([f"acct-{i:03d}" for i in range(40)], FUNDED_CENTS, random.Random(seed))

    async def fund() -> None:
        async with HttpClient() as http:
            await open_and_fund(http, cluster.url, books.accounts, FUNDED_CENTS)

    wait_for(lambda: lags(cluster) == {"j1": 0, "j2": 0, "j3": 0}, "all three count")  # joining raises epochs
    asyncio.run(fund())
    asyncio.run(_one_dies(cluster, books))
    wait_for(lambda: lags(cluster) == {"j1": 0, "j2": 0, "j3": 0}, "the returned copy caught up")
    asyncio.run(_two_die(cluster, books))
    old_tree = cluster.data_dir / "tree.json"
    assert admin(cluster, "backup", str(old_tree)).returncode == 0
    replacement = _disk_lost(cluster)
    try:
        asyncio.run(_without_the_first(cluster, books))
        asyncio.run(_tree_lost(cluster, books, old_tree))
        asyncio.run(settle(cluster, books))
        wait_for(lambda: set(lags(cluster).values()) == {0}, "all copies hold everything")
        verified(cluster)
        copies = [entries(folder(cluster, number)) for number in (1, 2, 4)]
        assert copies[0] == copies[1] == copies[2]
        compared = json.loads(admin(cluster, "journal", "verify").stdout)
        assert compared["same"], compared
        assert {copy["copy"]: copy["behind"] for copy in compared["copies"]} == {"j1": 0, "j2": 0, "j4": 0}
        print(f"{sum(map(len, copies[0].values()))} entries on each copy; {dict(books.answers)}")
    finally:
        replacement.kill()
        replacement.communicate()


async def _one_dies(cluster: Any, books: PulsedBooks) -> None:
    """Payments go on. What the dead copy misses is trimmed from the streams; it comes back and gets everything."""
    dying = cluster.living("journal-j1")
    with supervisor_sleeps(cluster):
        async with traffic(cluster, books, PAUSE_S):
            await successes(books, 200)
            killed_s = time.monotonic()
            kill(dying)
            await successes(books, 500)
            while time.monotonic() - killed_s < 3:  # streams are trimmed once a second
                await successes(books, 50)
            gap_s = longest_gap_s(books.successes_s, killed_s)
            failed = [at for at in books.outages_s if at > killed_s]
    print(f"one of three killed: {len(failed)} calls failed, longest gap between successes {gap_s:.2f} s")
    assert not failed
    cluster.wait_replaced(dying["pid"])


def refused_503(reply: Reply, code: str) -> None:
    assert (reply.status, reply.json()["code"], reply.json()["retryable"]) == (503, code, True), reply
    assert int(reply.headers["retry-after"]) >= 1


async def _two_die(cluster: Any, books: PulsedBooks) -> None:
    """Nothing on only one disk is answered; callers are told to retry. Afterwards everything goes on."""
    dying = [cluster.living(f"journal-{name}") for name in ("j2", "j3")]
    with supervisor_sleeps(cluster):
        async with HttpClient() as http:
            async with traffic(cluster, books, PAUSE_S):
                await successes(books, 100)
                for each in dying:
                    kill(each)
                payment = books.next_payment()
                paying = asyncio.create_task(
                    http.post(f"{cluster.url}/v1/wallet/balance_transfer", payment.body())
                )
                await asyncio.sleep(0.5)  # entries receipted before the kill are answered
                before = len(books.successes_s)
                await asyncio.sleep(2.0)
                assert len(books.successes_s) == before
                assert (await http.get(f"{cluster.url}/readyz")).status == 503
                account = f"{cluster.url}/v1/accounts/{payment.from_account}"
                refused_503(await http.get(f"{account}/balance?currency=USD"), "journal_unavailable")
            refused_503(await paying, "outcome_unknown")
    for each in dying:
        cluster.wait_replaced(each["pid"])
    await settle(cluster, books)


def _disk_lost(cluster: Any) -> subprocess.Popen[str]:
    """The third copy's folder is wiped: the copy is refused, and a fourth replaces it. Returns the fourth's process."""
    flags = cluster.coordination_flags()
    third = cluster.living("journal-j3")
    command = [str(BIN / "wallet-engine"), "journal", *flags, "--host", "127.0.0.1"]
    os.kill(cluster.process.pid, signal.SIGSTOP)  # so that the third is not restarted
    kill(third)
    wait_for(lambda: set(lags(cluster)) == {"j1", "j2"}, "the third is gone")
    shutil.rmtree(folder(cluster, 3))
    empty = subprocess.run(
        [*command, "--directory", str(folder(cluster, 3)), "--journal-id", "j3"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert empty.returncode == 1
    assert "--journal-id NEW --replaces j3" in empty.stderr.splitlines()[-1]
    new = ["--directory", str(folder(cluster, 4)), "--journal-id", "j4", "--replaces", "j3"]
    with (cluster.data_dir / "logs" / "journal-j4.log").open("w") as said:
        process = subprocess.Popen([*command, *new], stderr=said, text=True)
    wait_for(lambda: lags(cluster) == {"j1": 0, "j2": 0, "j4": 0}, "the fourth caught up")
    again = subprocess.run(
        [*command, "--directory", str(folder(cluster, 3)), "--journal-id", "j3"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "j3 was replaced" in again.stderr.splitlines()[-1]
    return process


async def _without_the_first(cluster: Any, books: PulsedBooks) -> None:
    """The replacement counts: with the first gone, it and the second are the quorum."""
    first = cluster.living("journal-j1")  # the supervisor is stopped
    async with traffic(cluster, books, PAUSE_S):
        kill(first)
        await successes(books, 200)
    os.kill(cluster.process.pid, signal.SIGCONT)
    await asyncio.to_thread(wait_for, lambda: "j1" in lags(cluster), "the first is back")


async def _tree_lost(cluster: Any, books: PulsedBooks, old_tree: Path) -> None:
    """ZooKeeper loses everything: payments go on. A backup from before j4 joined must not decide which copies count."""
    with closing(open_directory(cluster.state()["zookeeper"], None)) as directory:
        async with traffic(cluster, books, PAUSE_S):
            await successes(books, 50)
            for path in (CONFIG, MAP, MEMBERS, *(f"{SHARDS}/{name}" for name in directory.shards())):
                directory.tree.delete(path)
            lost_s = time.monotonic()
            while time.monotonic() - lost_s < 1.5 * COUNCIL_S:  # by then every copy has looked for the list
                await successes(books, 50)
        assert directory.journals().keys() == {"j1", "j2", "j4"}, "no copy took it for having been replaced"
        for words, said in (
            ((), "counts the journal copies j1, j2, j3, and those that run are j1, j2, j4"),
            (("--journal-copies", "j1,j2,j3"), "journal copy j4 runs: name it"),
        ):
            refused = await asyncio.to_thread(admin, cluster, "restore", str(old_tree), "--yes", *words)
            assert refused.returncode == 1, refused
            assert said in refused.stderr, refused
        assert not directory.initialised
        assert directory.members().version == -1
        copies = ("--journal-copies", "j1,j2,j4")
        restored = await asyncio.to_thread(admin, cluster, "restore", str(old_tree), "--yes", *copies)
        assert restored.returncode == 0, restored
        members = directory.members()
        assert (members.copies, members.replaced) == (("j1", "j2", "j4"), ("j3",))
    await settle(cluster, books)
    async with traffic(cluster, books, PAUSE_S):
        await successes(books, 50)


#: How long the copy is away: more than a few trims of the streams.
AWAY_S = float(os.environ.get("AWAY_S", "5"))
#: A copy with a smaller lag has caught up: so many entries are on their way at any moment.
LAG_ENTRIES_SMALL = 100


@pytest.mark.soak  # the simulator has it in the suite
@pytest.mark.timeout(300)
def test_g9_a_copy_that_was_away_returns_under_traffic(dev_cluster: Any) -> None:
    """The entries that it missed have left the streams of all partitions, and payments never pause for it."""
    seed = random.randrange(1 << 32)
    print(f"seed={seed}")
    cluster = dev_cluster(shards=2, partitions=64, extra=("--journals", "3"))
    books = PulsedBooks([f"acct-{i:03d}" for i in range(200)], FUNDED_CENTS, random.Random(seed))

    async def run() -> None:
        async with HttpClient() as http:
            await open_and_fund(http, cluster.url, books.accounts, FUNDED_CENTS)
        async with traffic(cluster, books):
            away_s = await _away(cluster, books, "j3", AWAY_S)
            returned_s = time.monotonic()
            await asyncio.to_thread(wait_for, lambda: _is_back(cluster, "j3"), "the third copy has caught up")
            back_s = time.monotonic() - returned_s
            rate = sum(at >= returned_s for at in books.successes_s) / back_s
            print(
                f"away for {away_s:.1f} s, back after {back_s:.1f} s at {rate:.0f} transfers/s; {lags(cluster)}"
            )
            with supervisor_sleeps(cluster):
                cluster.kill("journal-j2")
                await successes(books, 300)  # the copy that was away is one of the two that must receipt
        await settle(cluster, books)

    wait_for(lambda: lags(cluster) == {"j1": 0, "j2": 0, "j3": 0}, "all three count")
    asyncio.run(run())
    verified(cluster)


def test_a_copy_whose_disk_is_gone_is_replaced_as_doctor_says(dev_cluster: Any, tmp_path: Path) -> None:
    cluster = dev_cluster(partitions=4, extra=("--journals", "3"))
    wait_for(lambda: lags(cluster) == {"j1": 0, "j2": 0, "j3": 0}, "all three count")
    with supervisor_sleeps(cluster):
        kill(cluster.living("journal-j3"))
        wait_for(lambda: lags(cluster).keys() == {"j1", "j2"}, "it is gone")
        findings = json.loads(admin(cluster, "doctor").stdout)["findings"]
        (found,) = (f for f in findings if f["what"].startswith("journal copy j3") and "answer" in f["what"])
        with begun_advice(found, tmp_path, cluster, 1, NEW="j4", EMPTY="j4"):
            wait_for(lambda: lags(cluster) == {"j1": 0, "j2": 0, "j4": 0}, "the new one has everything")
            assert admin(cluster, "journal", "verify").returncode == 0
            assert admin(cluster, "backup", str(tmp_path / "tree.json")).returncode == 0


async def _away(cluster: Any, books: PulsedBooks, name: str, least_s: float) -> float:
    """Kill a copy, and let it restart once streams no longer have what it missed; returns the seconds it was away."""
    away = cluster.living(f"journal-{name}")
    with supervisor_sleeps(cluster):
        killed_s = time.monotonic()
        kill(away)
        while time.monotonic() - killed_s < least_s:
            await successes(books, 200)
    await asyncio.to_thread(cluster.wait_replaced, away["pid"])
    return time.monotonic() - killed_s


def _is_back(cluster: Any, name: str) -> bool:
    lag = lags(cluster).get(name)
    return lag is not None and lag < LAG_ENTRIES_SMALL


def test_g7_another_entry_of_the_same_number_answers_nobody() -> None:
    """Two entries have one sequence number: receipts of one never count for the other.

    Two copies have receipted the entry 7 that another service wrote after a failover. A third copy, which does not know
    of the failover, receipts the entry 7 that this service wrote before it.
    """
    tracker = ReceiptTracker(quorum=2)
    answers: list[str] = []

    class Silent:
        def __getattr__(self, _: str) -> Any:
            return lambda *_: None

    copies = [tracker.connected(name, Silent(), []) for name in ("j1", "j2", "j3")]
    tracker.expect(3, 7, "aaaaaaaaaaaaaaaa", lambda: answers.append("lost"))
    tracker.receipts(copies[0], [(3, ["bbbbbbbbbbbbbbbb"], 7)])
    tracker.receipts(copies[1], [(3, ["bbbbbbbbbbbbbbbb"], 7)])
    tracker.receipts(copies[2], [(3, ["aaaaaaaaaaaaaaaa"], 7)])
    tracker.receipts(copies[2], [(3, ["aaaaaaaaaaaaaaaa"], 7)])
    assert answers == []
