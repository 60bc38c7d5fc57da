"""G5, G6, G10 on the disk itself: rebuild from snapshots, archive, full disk, read-only disk. Real processes pay."""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from support.dev_process import DevCluster
from support.http_client import HttpClient
from support.traffic import RETRYABLE, Books, ask_batch, balances_cents, callers, finish, open_and_fund
from support.verification import verified

from wallet_engine.journal.snapshots import list_snapshots
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.routing.slots import partition_of, tag_of

FUNDED_CENTS = 100_000
SEGMENT_BYTES = 64 * 1024
DISK_BYTES = 256 * 1024 * 1024
#: Space left on the full disk: enough for some payments, too little for a segment.
ROOM_BYTES = 48 * 1024
WAIT_S_MAX = 60.0


async def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not await asyncio.to_thread(true):
        assert time.monotonic() < deadline, f"in vain: {what}"
        await asyncio.sleep(0.1)


async def pay_until(cluster: DevCluster, books: Books, done: Callable[[], bool], what: str) -> None:
    async with HttpClient() as http:
        stop = asyncio.Event()
        traffic = asyncio.create_task(callers(http, cluster.urls, books, count=16, stop=stop))
        try:
            await until(done, what)
        finally:
            stop.set()
            await traffic


async def settled(cluster: DevCluster, books: Books) -> None:
    """Every payment ends, a repeat gets the same answer as before, and balances equal the callers' own sums."""
    answered = books.answered
    async with HttpClient() as http:
        for start in range(0, len(answered), 200):
            await ask_batch(http, cluster.url, books, answered[start : start + 200])
        await finish(http, cluster.url, books)
        assert await balances_cents(http, cluster.url, books.accounts) == books.expected_cents()


async def fund(cluster: DevCluster, books: Books) -> None:
    async with HttpClient() as http:
        await open_and_fund(http, cluster.url, books.accounts, books.funded_cents)


def log_of(cluster: DevCluster) -> str:
    return (cluster.data_dir / "logs" / "journal-j1.log").read_text(errors="replace")


def lose_memory(cluster: DevCluster) -> None:
    """Kill the one Redis node; it comes back empty."""
    cluster.restart("redis")


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of `DISK_BYTES` if we are root and may mount one; else a folder, and the full-disk test skips."""
    disk = tmp_path_factory.mktemp("disk")
    if os.geteuid() != 0:
        yield disk
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "wallet-test", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archive")


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, small_disk: Path, archive: Path
) -> Iterator[DevCluster]:
    data = tmp_path_factory.mktemp("disk-dev") / "dev"
    data.mkdir()
    (data / "journal").symlink_to(small_disk)
    flags = (
        f"--segment-bytes={SEGMENT_BYTES}",
        f"--snapshot-bytes={SEGMENT_BYTES}",
        f"--archive-command=test ! -e {archive}/%f && cp %p {archive}/%f",
    )
    started = DevCluster(data, partitions=4, extra=flags)
    try:
        yield started.start()
    finally:
        started.kill_all()


@pytest.fixture(scope="module")
def books(cluster: DevCluster) -> Books:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    made = Books([f"acct-{i:02d}" for i in range(30)], FUNDED_CENTS, random.Random(seed))
    asyncio.run(fund(cluster, made))
    return made


@pytest.mark.soak
@pytest.mark.timeout(240)
def test_g6_memory_is_rebuilt_from_snapshots_and_a_damaged_one_is_passed_over(
    cluster: DevCluster, books: Books, archive: Path
) -> None:
    journal = cluster.data_dir / "journal"

    def enough() -> bool:
        return len(list_snapshots(journal)) == 4 and len(os.listdir(archive)) >= 2

    what = "a snapshot of every partition, two archived segments"
    asyncio.run(pay_until(cluster, books, enough, what))
    said = len(log_of(cluster))
    lose_memory(cluster)
    asyncio.run(settled(cluster, books))
    assert log_of(cluster)[said:].count('"snapshot loaded"') == 4
    verified(cluster)

    for name in ("00000001.wal", "00000002.wal"):
        assert (archive / name).read_bytes() == (journal / name).read_bytes()

    # One byte of every snapshot is damaged: the whole journal is replayed, and the log names a file and the offset.
    damaged = [path for paths in list_snapshots(journal).values() for path in paths]
    for path in damaged:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    said = len(log_of(cluster))
    lose_memory(cluster)
    asyncio.run(settled(cluster, books))
    named = log_of(cluster)[said:]
    assert any(f"{path.name} at offset" in named for path in damaged), named
    verified(cluster)


def admin(cluster: DevCluster, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit status and document of a verb."""
    command = [
        str(Path(sys.executable).with_name("wallet-admin")),
        *cluster.coordination_flags(),
        "--json",
        *words,
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S_MAX, check=False)
    return run.returncode, json.loads(run.stdout)


@pytest.mark.timeout(240)
def test_g5_g6_a_partition_that_holds_what_never_happened_is_rebuilt_under_payments(
    cluster: DevCluster, books: Books
) -> None:
    """A balance was changed in Redis by hand: `snapshot` does not take it over, and `rebuild` corrects it."""
    partition = partition_of(books.accounts[0], 4)
    host, _, port = cluster.processes("redis")[0]["address"].rpartition(":")
    keys = PartitionKeys(tag_of(partition, 4))
    with redis.Redis(host=host, port=int(port), decode_responses=True) as client:
        client.hincrby(keys.balance("USD"), books.accounts[0], 1_000_000)
        epoch = int(client.hget(keys.meta, "epoch") or 0)
        assert admin(cluster, "verify")[0] == 1
        assert admin(cluster, "snapshot")[0] == 0
        status, plan = admin(cluster, "rebuild", str(partition), "--dry-run")
        assert (status, plan["dry_run"], plan["plan"]["epoch"]) == (0, True, str(epoch))
        assert client.hget(keys.meta, "state") == "live"

        stop = asyncio.Event()

        async def rebuild_under_payments() -> tuple[int, dict[str, Any]]:
            async with HttpClient() as http:
                traffic = asyncio.create_task(
                    callers(http, cluster.urls, books, count=4, stop=stop, pause_s=0.02)
                )
                try:
                    return await asyncio.to_thread(admin, cluster, "rebuild", str(partition), "--yes")
                finally:
                    stop.set()
                    await traffic

        status, document = asyncio.run(rebuild_under_payments())
        assert status == 0, document
        assert int(document["epoch"]) > epoch
    asyncio.run(settled(cluster, books))
    verified(cluster)


@pytest.mark.skipif(os.geteuid() != 0, reason="filling a disk takes root: a small one is mounted")
@pytest.mark.timeout(240)
def test_g5_g10_a_full_disk_refuses_payments_loses_none_and_service_resumes(
    cluster: DevCluster, books: Books, small_disk: Path
) -> None:
    filler = small_disk / "somebody-elses"
    free = os.statvfs(small_disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_bsize - ROOM_BYTES)
    said, answered = len(log_of(cluster)), books.answers["success"]
    full_from_s = time.monotonic()
    stopped = "No space left on device: free space there"

    asyncio.run(pay_until(cluster, books, lambda: stopped in log_of(cluster)[said:], "the disk is full"))
    assert books.answers["success"] > answered
    assert books.answers.keys() & RETRYABLE, "callers are told to ask again"
    # While the disk is full, the journal is restarted again and again, at longer and longer intervals.
    full_s = time.monotonic() - full_from_s
    starts = log_of(cluster)[said:].count(stopped)
    assert starts <= 5 + full_s / 2, f"a hot crash loop: {starts} starts in {full_s:.0f} s"

    filler.unlink()
    asyncio.run(settled(cluster, books))
    verified(cluster)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting read-only takes root")
def test_a_read_only_disk_is_refused_in_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    imports = "from pathlib import Path; import sys, wallet_engine.journal as j"
    open_it = f"{imports}; j.JournalWriter(Path(sys.argv[1]), 'j')"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "wallet-test", disk], check=True)
    try:
        subprocess.run([sys.executable, "-c", open_it, disk], check=True)
        before = sorted(disk.iterdir())
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        opened = subprocess.run(
            [sys.executable, "-c", open_it, disk], capture_output=True, text=True, check=False
        )
    finally:
        subprocess.run(["umount", disk], check=True)
    assert f"ConfigError: journal directory {disk}: Read-only file system: mount it writable" in opened.stderr
    assert before
