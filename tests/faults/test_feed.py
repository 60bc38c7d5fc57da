"""The feed of a cluster whose journal copies and Redis die, and whose segments leave the disk (G5, G9).

A follower gets each entry once and in order, and gets exactly what every copy holds in the end. This covers entries
that a recovery had to decide about, and a follower that starts when what it needs is only in the archive.
"""

import asyncio
import contextlib
import json
import os
import random
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest
from support.http_client import HttpClient
from support.journal_copies import (
    BIN,
    entries,
    folder,
    lags,
    settle,
    successes,
    traffic,
    wait_for,
)
from support.pulse import PulsedBooks
from support.redis_peek import open_debits
from support.replicated import kill, supervisor_sleeps
from support.stopped import stopped
from support.traffic import open_and_fund

from wallet_engine.journal.feed import FeedEntry, partitions_from_start
from wallet_engine.journal.feed_client import CopyAddress, FeedClient
from wallet_engine.journal.feed_server import ENDS_S_MAX
from wallet_engine.journal.reader import ends_of
from wallet_engine.journal.restore import restore_with
from wallet_engine.journal.segments import numbers_on_disk, restore_by
from wallet_engine.routing.directory import Directory, open_directory

PARTITIONS = 4
FUNDED_CENTS = 100_000
PAUSE_S = 0.05
NODES = ("s1-1", "s2-1")


class Follower:
    """Follows all partitions in a task of its own."""

    def __init__(self, directory: Directory, name: str) -> None:
        async def copies() -> Mapping[str, CopyAddress]:
            journals = await asyncio.to_thread(directory.journals)
            return {journal_id: CopyAddress(info.address, info.tls) for journal_id, info in journals.items()}

        self.feed = FeedClient(copies, name)
        self.taken: dict[int, list[FeedEntry]] = {partition: [] for partition in range(PARTITIONS)}
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async with aclosing(self.feed.follow(partitions_from_start(self.taken))) as batches:
            async for batch in batches:
                self._take(batch)

    def _take(self, batch: Sequence[FeedEntry]) -> None:
        for entry in batch:
            self.taken[entry.partition].append(entry)

    def payloads(self) -> dict[int, list[bytes]]:
        return {partition: [entry.payload for entry in entries] for partition, entries in self.taken.items()}

    async def until(self, ends: Mapping[int, int]) -> None:
        async with asyncio.timeout(60):
            while any(len(self.taken[partition]) < end for partition, end in ends.items()):
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def wallet_admin(cluster: Any, restore: str, *words: str) -> dict[str, Any]:
    command = [str(BIN / "wallet-admin"), *cluster.coordination_flags(), "--json", *words]
    environ = {**os.environ, "WALLET_RESTORE_COMMAND": restore}
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environ)
    assert run.returncode == 0, run.stdout + run.stderr
    document: dict[str, Any] = json.loads(run.stdout)
    return document


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_g5_g9_what_the_feed_gave_is_what_the_copies_hold(dev_cluster: Any, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed={seed}")
    archive = tmp_path / "archive"
    for name in ("j1", "j2", "j3"):
        (archive / name).mkdir(parents=True)
    restore = f"cp {archive}/%j/%f %p"
    cluster = dev_cluster(
        shards=2,
        partitions=PARTITIONS,
        extra=(
            *("--journals", "3", "--segment-bytes=65536", "--snapshot-bytes=65536", "--keep=128KB"),
            f"--archive-command=cp %p {archive}/%j/%f",
            f"--restore-command={restore}",
        ),
    )
    books = PulsedBooks([f"acct-{i:03d}" for i in range(40)], FUNDED_CENTS, random.Random(seed))
    wait_for(lambda: lags(cluster) == {"j1": 0, "j2": 0, "j3": 0}, "all three count")
    with closing(open_directory(cluster.state()["zookeeper"], None)) as directory:
        first = asyncio.run(_under_faults(cluster, directory, books))
        wait_for(lambda: set(lags(cluster).values()) == {0}, "all copies hold everything")
        wait_for(
            lambda: all(numbers_on_disk(folder(cluster, number))[0] > 1 for number in (1, 2, 3)),
            "what --keep does not keep has left the disks",
        )
        late = asyncio.run(_away_until_now(directory, {p: len(taken) for p, taken in first.items()}))
    assert late == first
    restore_with(restore)
    try:
        for number in (1, 3):
            assert _held(folder(cluster, number)) == first
    finally:
        restore_by(None)
    assert wallet_admin(cluster, restore, "verify")["ok"]
    whole = wallet_admin(cluster, restore, "journal", "verify", "--archive", str(folder(cluster, 2)))
    assert whole["from_archive"] > 1
    assert whole["entries"] == sum(map(len, first.values()))
    print(f"{whole['entries']} entries; {dict(books.answers)}")


def _held(directory: Path) -> dict[int, list[bytes]]:
    found = entries(directory)
    return {partition: found.get(partition, []) for partition in range(PARTITIONS)}


async def _under_faults(cluster: Any, directory: Directory, books: PulsedBooks) -> dict[int, list[bytes]]:
    """The entries of a follower that ran all the time."""
    async with HttpClient() as http:
        await open_and_fund(http, cluster.url, books.accounts, FUNDED_CENTS)
    follower = Follower(directory, "first")
    async with traffic(cluster, books, PAUSE_S):
        await successes(books, 100)
        for name in ("j1", "j2", "j3"):
            await asyncio.to_thread(cluster.kill, f"journal-{name}")
            await successes(books, 100)
        for node in NODES:  # entries that only Redis had are lost, and were never answered
            await asyncio.to_thread(cluster.kill, node)
            await asyncio.to_thread(cluster.kill, f"journal-{books.rng.choice(('j1', 'j2', 'j3'))}")
            await successes(books, 100)
        await successes(books, 100)
        await _one_copy_alone(cluster, books, follower)
        await successes(books, 200)
    await settle(cluster, books)
    await asyncio.to_thread(_quiet, cluster)
    ends = await follower.feed.positions()
    await follower.until(ends)
    await follower.stop()
    assert {partition: len(taken) for partition, taken in follower.taken.items() if taken} == ends
    return follower.payloads()


async def _one_copy_alone(cluster: Any, books: PulsedBooks, follower: Follower) -> None:
    """j1 gets entries that no other copy gets. A recovery without j1 begins in their place; j1 sets its own aside."""
    first, *others = [await asyncio.to_thread(cluster.living, f"journal-j{number}") for number in (1, 2, 3)]
    nodes = [await asyncio.to_thread(cluster.living, name) for name in NODES]
    with contextlib.ExitStack() as until_paid:
        with supervisor_sleeps(cluster):
            for copy in others:
                kill(copy)
            behind = sum(ends_of(folder(cluster, 2)).values())
            async with asyncio.timeout(60):
                while sum(ends_of(folder(cluster, 1)).values()) < behind + 1:
                    await asyncio.sleep(0.05)
            dead = [ends_of(folder(cluster, number)) for number in (2, 3)]
            for _ in range(10):  # each time, j1 has looked up its ends anew, and the follower has asked it
                for partition, seq in (await follower.feed.positions()).items():
                    assert seq <= max(ends.get(partition, 0) for ends in dead)
                await asyncio.sleep(2 * ENDS_S_MAX)
            until_paid.enter_context(stopped(first))
            for node in nodes:
                kill(node)
        await successes(books, 50)
    async with asyncio.timeout(60):
        while not list(folder(cluster, 1).glob("orphaned-p*")):
            await asyncio.sleep(0.05)


def _quiet(cluster: Any) -> None:
    """Wait until settles and all other work after the answers is over, and every copy has the same entries.

    A sweeper ends interrupted transfers some seconds later.
    """
    wait_for(
        lambda: not any(open_debits(cluster, partition, PARTITIONS) for partition in range(PARTITIONS)),
        "nothing is open",
    )
    seen: list[Any] = []

    def same() -> bool:
        info = json.loads(
            subprocess.run(
                [str(BIN / "wallet-admin"), *cluster.coordination_flags(), "--json", "journal", "info"],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
        )
        seen.append([(copy["entries"], copy["lag_entries"]) for copy in info["copies"]])
        return len(seen) > 2 and seen[-1] == seen[-2] == seen[-3] and len(set(seen[-1])) == 1

    wait_for(same, "nothing is under way")


async def _away_until_now(directory: Directory, ends: Mapping[int, int]) -> dict[int, list[bytes]]:
    follower = Follower(directory, "late")
    await follower.until(ends)
    await follower.stop()
    return follower.payloads()
