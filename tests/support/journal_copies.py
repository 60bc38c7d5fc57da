"""Help for tests that strike clusters with several journal copies: their folders, lags and entries, and traffic."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.http_client import HttpClient
from support.pulse import PulsedBooks
from support.traffic import balances_cents, callers, finish

from wallet_engine.journal import read

BIN = Path(sys.executable).parent
#: For a wait that takes a second or two on an idle machine.
WAIT_S_MAX = 60.0


def wait_for(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S_MAX:.0f} s"
        time.sleep(0.1)


def folder(cluster: Any, number: int) -> Path:
    return Path(cluster.data_dir) / ("journal" if number == 1 else f"journal-{number}")


def admin(cluster: Any, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "wallet-admin"), *cluster.coordination_flags(), "--json", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def lags(cluster: Any) -> dict[str, int | None]:
    """Journal id -> how many entries it is behind Redis."""
    answer = json.loads(admin(cluster, "journal", "info").stdout)
    return {copy["journal_id"]: copy["lag_entries"] for copy in answer["copies"] if copy["reachable"]}


def entries(directory: Path) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    for record in read(directory):
        found.setdefault(record.partition, []).append(record.payload)
    return found


@asynccontextmanager
async def traffic(cluster: Any, books: PulsedBooks, pause_s: float = 0.0) -> AsyncIterator[None]:
    async with HttpClient() as http:
        stop = asyncio.Event()
        running = asyncio.create_task(
            callers(http, cluster.urls, books, count=16, stop=stop, pause_s=pause_s)
        )
        try:
            yield
        finally:
            stop.set()
            await running


async def successes(books: PulsedBooks, count: int) -> None:
    """Return after `count` more transfers were answered with success."""
    until = len(books.successes_s) + count
    async with asyncio.timeout(WAIT_S_MAX):
        while len(books.successes_s) < until:
            await asyncio.sleep(0.05)


async def settle(cluster: Any, books: PulsedBooks) -> None:
    async with HttpClient() as http:
        await finish(http, cluster.url, books)
        assert await balances_cents(http, cluster.url, books.accounts) == books.expected_cents()
