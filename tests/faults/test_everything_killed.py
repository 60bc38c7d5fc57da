"""G5, G6, G9: every process of the cluster is killed at once under traffic; nothing answered is lost."""

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.http_client import HttpClient
from support.oracle import oracle_figure
from support.replicated import wait_until
from support.traffic import Books, ask_batch, balances_cents, callers, finish, open_and_fund, until_answered

TRAFFIC_S = 1.5
FUNDED_CENTS = 100_000


def verify(cluster: Any) -> dict[str, Any]:
    """`wallet-admin verify --json`, which must say ok."""
    run = subprocess.run(
        [
            str(Path(sys.executable).with_name("wallet-admin")),
            *cluster.coordination_flags(),
            "--json",
            "verify",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    document: dict[str, Any] = json.loads(run.stdout)
    assert document["ok"], document
    return document


@pytest.mark.soak  # `tests/integration/test_dev.py` has it once, without traffic
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("embedded", "rounds"),
    [
        pytest.param(False, 5, id="zookeeper"),
        pytest.param(True, 5, id="embedded"),
    ],
)
def test_kill_9_of_every_process_at_once(dev_cluster: Any, embedded: bool, rounds: int) -> None:
    """The second round kills what the first has recovered."""
    seed = random.randrange(1 << 32)
    print(f"seed={seed}")
    cluster = dev_cluster(shards=3, partitions=16, apis=2, embedded=embedded, extra=["--oracle"])
    books = Books([f"acct-{i:03d}" for i in range(60)], FUNDED_CENTS, random.Random(seed))
    asyncio.run(_run(cluster, books, rounds))
    wait_until(
        lambda: oracle_figure(cluster, "wallet_oracle_operations_total") > 0, "the oracle decides again"
    )
    wait_until(
        lambda: oracle_figure(cluster, "wallet_follow_behind_entries") == 0, "it has decided everything"
    )
    assert oracle_figure(cluster, "wallet_oracle_partitions_differ") == 0
    document = verify(cluster)
    assert document["in_transit"] == {"USD": "0.00"}
    print(f"transfers={len(books.payments)} answers={dict(books.answers)} entries={document['entries']}")


async def _run(cluster: Any, books: Books, rounds: int) -> None:
    async with HttpClient() as http:
        await open_and_fund(http, cluster.url, books.accounts, FUNDED_CENTS)
    for _ in range(rounds):
        async with HttpClient() as http:
            stop = asyncio.Event()
            traffic = asyncio.create_task(callers(http, cluster.urls, books, count=64, stop=stop))
            await until_answered(books, count=len(books.answered) + 100, after_s=TRAFFIC_S)
            await asyncio.to_thread(cluster.kill_all)
            stop.set()
            await traffic
        await asyncio.to_thread(cluster.start)
        async with HttpClient() as http:
            # A repeat gets the same answer as before: a different one raises `Contradiction`.
            before = books.answered
            for start in range(0, len(before), 200):
                await ask_batch(http, cluster.url, books, before[start : start + 200])
            await finish(http, cluster.url, books)
            assert await balances_cents(http, cluster.url, books.accounts) == books.expected_cents()
