"""A copy with no entries joins a journal of a million entries while payments go on (G9).

`tests/integration/test_catch_up.py` counts how its work grows with the missing entries; here it is timed.

    JOIN_ENTRIES=100000 pytest -m soak tests/faults/test_large_journal.py -s
"""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from support.http_client import HttpClient
from support.journal_copies import BIN, admin, folder, lags, settle, traffic, wait_for
from support.pulse import PulsedBooks, longest_gap_s
from support.replicated import kill
from support.traffic import open_and_fund
from support.verification import verified

ENTRIES = int(os.environ.get("JOIN_ENTRIES", "1000000"))
FUNDED_CENTS = 100_000
#: The longest time without a success while the copy joins: the list of copies is changed under fences.
GAP_S_MAX = 2.0
JOIN_S_MAX = 600.0
_FILLERS = 400
_TRANSFERS_PER_CALL = 150


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_g9_a_copy_takes_the_place_of_one_with_a_million_entries(dev_cluster: Any) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed={seed}")
    cluster = dev_cluster(shards=2, partitions=64, extra=("--journals", "3"))
    books = PulsedBooks([f"acct-{i:03d}" for i in range(100)], FUNDED_CENTS, random.Random(seed))
    wait_for(lambda: lags(cluster) == {"j1": 0, "j2": 0, "j3": 0}, "all three count")
    asyncio.run(_fill(cluster, random.Random(seed), ENTRIES))
    wait_for(lambda: lags(cluster) == {"j1": 0, "j2": 0, "j3": 0}, "all three have everything")
    third = cluster.living("journal-j3")
    os.kill(cluster.process.pid, signal.SIGSTOP)  # so that the third is not restarted
    kill(third)
    shutil.rmtree(folder(cluster, 3))
    process: subprocess.Popen[str] | None = None
    try:
        process = asyncio.run(_replaced_under_traffic(cluster, books))
        asyncio.run(settle(cluster, books))
        wait_for(lambda: lags(cluster) == {"j1": 0, "j2": 0, "j4": 0}, "the new copy has everything")
        compared = json.loads(admin(cluster, "journal", "verify").stdout)
        assert compared["same"], compared
        stopped_s = time.monotonic()
        process.terminate()
        assert process.wait(20) == 0
        print(f"the new copy ended {time.monotonic() - stopped_s:.2f} s after SIGTERM")
        verified(cluster, 600)
    finally:
        os.kill(cluster.process.pid, signal.SIGCONT)
        if process is not None:
            process.kill()
            process.wait()


async def _replaced_under_traffic(cluster: Any, books: PulsedBooks) -> subprocess.Popen[str]:
    async with HttpClient() as http:
        await open_and_fund(http, cluster.url, books.accounts, FUNDED_CENTS)
    async with traffic(cluster, books):
        await asyncio.to_thread(wait_for, lambda: set(lags(cluster)) == {"j1", "j2"}, "the third is gone")
        begun_s = time.monotonic()
        process = _start_j4(cluster)
        rates = []
        while not _counts(cluster):
            assert process.poll() is None, "the new copy has ended"
            assert time.monotonic() - begun_s < JOIN_S_MAX
            before, before_s = len(books.successes_s), time.monotonic()
            await asyncio.sleep(0.5)
            rates.append((len(books.successes_s) - before) / (time.monotonic() - before_s))
        joined_s = time.monotonic()
        while time.monotonic() - joined_s < 5.0:  # the recovery of all partitions that follows
            await asyncio.sleep(0.1)
        gap_s = longest_gap_s(books.successes_s, begun_s)
    entries = json.loads(admin(cluster, "journal", "info").stdout)["copies"][0]["entries"]
    print(
        f"{entries:,} entries: joined after {joined_s - begun_s:.1f} s, "
        f"{min(rates):.0f} to {max(rates):.0f} transfers/s meanwhile, longest gap {gap_s:.2f} s, "
        f"{_peak_bytes(process.pid) / 1e6:.0f} MB"
    )
    assert gap_s <= GAP_S_MAX
    return process


def _start_j4(cluster: Any) -> "subprocess.Popen[str]":
    command = [str(BIN / "wallet-engine"), "journal", *cluster.coordination_flags(), "--host", "127.0.0.1"]
    new = ["--directory", str(folder(cluster, 4)), "--journal-id", "j4", "--replaces", "j3"]
    with (cluster.data_dir / "logs" / "journal-j4.log").open("w") as said:
        return subprocess.Popen([*command, *new], stderr=said, text=True)


def _counts(cluster: Any) -> bool:
    """Whether the new copy has logged that it joined."""
    return '"event": "joined"' in (Path(cluster.data_dir) / "logs" / "journal-j4.log").read_text()


def _peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024


async def _fill(cluster: Any, rng: random.Random, entries: int) -> None:
    """Pay among other accounts until the journal has so many entries. Most calls touch most partitions."""
    accounts = [f"filler-{i:03d}" for i in range(_FILLERS)]
    begun_s = time.monotonic()

    def transfers() -> list[dict[str, str]]:
        made = []
        for _ in range(_TRANSFERS_PER_CALL):
            sender, receiver = rng.sample(accounts, 2)
            made.append(
                {
                    "from_account": sender,
                    "to_account": receiver,
                    "amount": "0.01",
                    "currency": "USD",
                    "transaction_id": str(uuid.UUID(int=rng.getrandbits(128))),
                }
            )
        return made

    async with HttpClient() as http:
        await open_and_fund(http, cluster.url, accounts, 10_000_000)

        async def caller() -> None:
            while not enough.is_set():
                reply = await http.post(f"{cluster.url}/v1/transfers/batch", {"transfers": transfers()})
                assert reply.status == 200, reply

        enough = asyncio.Event()
        callers = [asyncio.create_task(caller()) for _ in range(6)]
        try:
            while True:
                await asyncio.sleep(2.0)
                copies = json.loads((await asyncio.to_thread(admin, cluster, "journal", "info")).stdout)[
                    "copies"
                ]
                if max(copy["entries"] or 0 for copy in copies) >= entries:
                    break
                for each in callers:
                    if each.done():
                        each.result()
        finally:
            enough.set()
            await asyncio.gather(*callers)
    print(f"filled in {time.monotonic() - begun_s:.0f} s")
