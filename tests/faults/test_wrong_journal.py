"""A journal process with an empty folder, or with a stale copy of one, must not become the truth."""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dev_process import DevCluster
from support.http_client import HttpClient
from support.replicated import command, kill, supervisor_sleeps, wait_until
from support.traffic import Payment, balances_cents, open_and_fund
from support.verification import verified

from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.routing.directory import MEMBERS, open_directory
from wallet_engine.routing.slots import tag_of

pytestmark = pytest.mark.timeout(180)

ACCOUNTS = [f"acct-{i:02d}" for i in range(20)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """One partition; each test leaves it with its own journal and every balance."""
    path = tmp_path_factory.mktemp("wrong") / "dev"
    started = DevCluster(path, shards=1, partitions=1, embedded=True)
    try:
        yield started.start()
    finally:
        started.kill_all()


def start_journal(cluster: Any, directory: Path, journal_id: str) -> subprocess.CompletedProcess[str]:
    path = str(Path(sys.executable).with_name("wallet-engine"))
    return subprocess.run(
        [
            path,
            "journal",
            *cluster.coordination_flags(),
            "--directory",
            str(directory),
            "--journal-id",
            journal_id,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_empty_folder_is_refused(cluster: DevCluster, tmp_path: Path) -> None:
    """G5, G6: if it were accepted, recovery would take an empty journal for the truth and drop all balances."""
    asyncio.run(_fund(cluster))
    cluster.stop()
    shutil.move(cluster.data_dir / "journal", tmp_path / "lost")
    empty = start_journal(cluster, cluster.data_dir / "journal", "j1")
    assert empty.returncode == 1
    assert "has had entries, but" in empty.stderr.splitlines()[-1]

    shutil.rmtree(cluster.data_dir / "journal")
    shutil.move(tmp_path / "lost", cluster.data_dir / "journal")
    cluster.start()
    asyncio.run(_check(cluster))


def test_a_stale_copy_of_the_folder_does_not_overwrite_redis(cluster: DevCluster, tmp_path: Path) -> None:
    """G5, G6: entries trimmed from the stream were durable; a journal without them must not recover anything."""
    asyncio.run(_fund(cluster))
    shutil.copytree(cluster.data_dir / "journal", tmp_path / "stale")
    asyncio.run(_pay(cluster, 400))
    (node,) = cluster.processes("redis")
    stream = PartitionKeys(tag_of(0, 1)).journal
    wait_until(lambda: command(node, "XLEN", stream) < 400, "the stream is trimmed")

    journal = cluster.living("journal")
    with supervisor_sleeps(cluster):
        kill(journal)
        journal_says("were on disk once and are not in", cluster, tmp_path / "stale")
    cluster.wait_replaced(journal["pid"])
    asyncio.run(_check(cluster, paid=400))
    verified(cluster)


def test_a_copy_does_not_take_itself_for_the_only_one(dev_cluster: Any) -> None:
    """G5: when the list of copies is lost, the first copy to start may be the one that is behind."""
    cluster = dev_cluster(shards=1, partitions=1, embedded=True, extra=("--journals", "2"))
    asyncio.run(_fund(cluster))
    cluster.stop()
    with contextlib.closing(open_directory(None, cluster.data_dir / "map.json")) as directory:
        directory.tree.delete(MEMBERS)
    alone = start_journal(cluster, cluster.data_dir / "journal-2", "j2")
    assert alone.returncode == 1
    assert "the list of journal copies that count is gone" in alone.stderr.splitlines()[-1]


def journal_says(line: str, cluster: DevCluster, directory: Path) -> None:
    """Return when a journal process on this folder has logged that, and end it."""
    path = str(Path(sys.executable).with_name("wallet-engine"))
    command = [path, "journal", *cluster.coordination_flags(), "--directory", str(directory)]
    said = directory.with_suffix(".log")
    with said.open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            wait_until(lambda: line in said.read_text(), f"the journal says {line!r}")
        finally:
            process.kill()


async def _fund(cluster: Any) -> None:
    async with HttpClient() as http:
        await open_and_fund(http, cluster.url, ACCOUNTS, 1000)


async def _pay(cluster: Any, count: int) -> None:
    """One cent each from the first account to the second, one entry each."""
    async with HttpClient() as http:
        for number in range(count):
            payment = Payment(ACCOUNTS[0], ACCOUNTS[1], 1, str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))))
            reply = await http.post(f"{cluster.url}/v1/wallet/balance_transfer", payment.body())
            assert reply.status == 200, reply.body


async def _check(cluster: Any, paid: int = 0) -> None:
    expected = {**dict.fromkeys(ACCOUNTS, 1000), ACCOUNTS[0]: 1000 - paid, ACCOUNTS[1]: 1000 + paid}
    async with HttpClient() as http:
        async with asyncio.timeout(30):
            while (await http.get(f"{cluster.url}/readyz")).json()["status"] != "ready":
                await asyncio.sleep(0.1)
        assert await balances_cents(http, cluster.url, ACCOUNTS) == expected
