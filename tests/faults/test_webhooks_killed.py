"""Followers are killed under traffic: every event of the journal is in the log once, and has arrived at the webhook.

The expected events are made from the journal's own files, not from what the followers have written.
"""

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from standardwebhooks import Webhook
from support.dev_process import DevCluster
from support.dev_process import json_admin as admin
from support.journal_events import events_in
from support.paying import Paying
from support.webhook_server import WebhookServer

from wallet_engine.dev.postgresql import DATABASE, USER

PARTITIONS = 16
KILLS = 4
SETTLE_S_MAX = 150.0
#: Of the long test.
SOAK_S = 600.0
SOAK_SETTLE_S_MAX = 400.0
SOAK_CALLERS = 1

pytestmark = pytest.mark.timeout(300)


class Receiver:
    """A webhook server in a thread of its own."""

    def __init__(self) -> None:
        self.server = WebhookServer()
        self._started = threading.Event()
        self._stop: Any = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    async def _run(self) -> None:
        stopped = asyncio.Event()
        self._stop = (asyncio.get_running_loop(), stopped)
        async with self.server:
            self._started.set()
            await stopped.wait()

    def __enter__(self) -> WebhookServer:
        self._thread.start()
        assert self._started.wait(10)
        return self.server

    def __exit__(self, *_: object) -> None:
        loop, stopped = self._stop
        loop.call_soon_threadsafe(stopped.set)
        self._thread.join(10)


class Poller:
    """Polls `GET /v1/events` after the last event that it has, and waits for more."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.events: list[dict[str, Any]] = []
        self._place = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(OSError):
                self.read(wait_s=2)

    def read(self, wait_s: int = 0) -> None:
        after = f"&after={self._place}" if self._place else ""
        question = f"{self._url}/v1/events?limit=200&wait_s={wait_s}{after}"
        with urllib.request.urlopen(question, timeout=30) as answer:
            said = json.load(answer)
        self.events += said["events"]
        self._place = said["next"]

    def __enter__(self) -> "Poller":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)


def posted(url: str, body: dict[str, Any]) -> dict[str, Any]:
    asking = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(asking, timeout=30) as answer:
        said: dict[str, Any] = json.load(answer)
    return said


@contextlib.contextmanager
def second_follower(cluster: DevCluster, log: Path) -> Iterator[None]:
    """A second one beside `dev`'s, with the same name: the two share the partitions until this one is killed."""
    database = cluster.data_dir / "postgresql"
    address = cluster.processes("database")[0]["address"]
    argv = [
        sys.executable,
        "-m",
        "wallet_engine",
        "follow",
        *cluster.coordination_flags(),
        "--to",
        "webhooks",
    ]
    argv += ["--database", f"postgresql://{USER}@{address}/{DATABASE}"]
    argv += ["--database-password-file", str(database / "password"), "--webhooks-allow-private"]
    with log.open("wb") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.soak
def test_followers_killed_under_traffic(dev_cluster: Any, tmp_path: Path) -> None:
    """`dev`'s follower, which `dev` restarts each time; and once a second one that shares its partitions."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    flags = ("--history", "--webhooks-allow-private")
    cluster: DevCluster = dev_cluster(embedded=True, partitions=PARTITIONS, extra=flags)
    paying = Paying(cluster, callers_count=2)
    log = cluster.data_dir / "logs" / "follower-1.log"
    with Receiver() as server, Poller(cluster.url) as poller:
        wish = {"url": server.url("/hook"), "types": ["transfer.*", "account.*"]}
        secret = posted(f"{cluster.url}/v1/webhooks", wish)["secret"]
        with paying.running():
            with second_follower(cluster, tmp_path / "second.log"):
                time.sleep(chance.uniform(4, 6))
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.3, 2.5))
                cluster.restart("follower")
        wanted = {event.id: event for event in events_in(cluster.data_dir / "journal", PARTITIONS)}
        sent = {name for name, event in wanted.items() if event.type != "posting"}
        deadline = time.monotonic() + SETTLE_S_MAX
        while {each.headers["webhook-id"] for each in server.received} != sent:
            assert time.monotonic() < deadline, (
                f"{len(sent)} events, {len(server.received)} received\n{log.read_text('utf-8')[-3000:]}"
            )
            time.sleep(0.1)
    while len(poller.events) < len(wanted):
        poller.read()
    # In the log: each once.
    ids = [event["id"] for event in poller.events]
    assert len(ids) == len(set(ids))
    assert set(ids) == wanted.keys()
    assert all(event == wanted[event["id"]].document() for event in poller.events)
    # At the webhook: each at least once, in the order of its account, as it was written, signed.
    first: dict[str, bytes] = {}
    for each in server.received:
        assert first.setdefault(each.headers["webhook-id"], each.body) == each.body
    assert all(json.loads(body) == wanted[name].document() for name, body in first.items())
    for subject in {event["subject"] for event in poller.events}:
        mine = [event for event in poller.events if event["subject"] == subject]
        logged = [event["id"] for event in mine if event["type"] != "posting"]
        assert [name for name in first if wanted[name].subject == subject] == logged
    last = server.received[-1]
    assert Webhook(secret).verify(last.body, last.headers)
    # Each payment has one event, which says what its caller was told.
    told = [event for event in poller.events if event["type"].startswith("transfer.")]
    by_id = {event["data"]["transaction_id"]: event for event in told}
    assert len(by_id) == len(told)
    for payment in paying.books.answered:
        event = by_id[payment.transaction_id]
        said = "success" if event["type"] == "transfer.succeeded" else event["data"]["code"]
        assert said == payment.answer


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_ten_minutes_of_kills(dev_cluster: Any) -> None:
    """Follower, PostgreSQL and journal die at random under traffic: history is sound, every event was delivered."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    flags = ("--history", "--webhooks-allow-private")
    cluster: DevCluster = dev_cluster(embedded=True, partitions=PARTITIONS, extra=flags)
    paying = Paying(cluster, callers_count=SOAK_CALLERS)
    struck: Counter[str] = Counter()
    with Receiver() as server:
        wish = {"url": server.url("/hook"), "types": ["transfer.*", "account.*"]}
        posted(f"{cluster.url}/v1/webhooks", wish)
        began_s = time.monotonic()
        with paying.running():
            while time.monotonic() - began_s < SOAK_S:
                time.sleep(chance.uniform(2, 10))
                what = chance.choice(("follower", "database", "database stands still", "journal"))
                struck[what] += 1
                if what == "database stands still":
                    stand_still(cluster.living("database")["pid"], chance.uniform(1, 8))
                else:
                    cluster.restart(what)
        paid_s = time.monotonic() - began_s
        wanted = {event.id: event for event in events_in(cluster.data_dir / "journal", PARTITIONS)}
        sent = {name for name, event in wanted.items() if event.type != "posting"}
        deadline = time.monotonic() + SOAK_SETTLE_S_MAX
        while (found := {each.headers["webhook-id"] for each in server.received}) != sent:
            assert time.monotonic() < deadline, f"{len(sent)} events, {len(found)} received"
            time.sleep(0.5)
    paying.check()
    status, said = admin(cluster, "history", "verify")
    assert (status, said["ok"], said["differences"]) == (0, True, []), said
    payments = len(paying.books.payments)
    print(
        f"{payments} payments in {paid_s:.0f} s, {paying.failed()} answers asked for again; struck: {dict(struck)}; "
        f"{len(sent)} events in {len(server.received)} deliveries; verified {said['transfers']} transfers"
    )


def stand_still(pid: int, seconds: float) -> None:
    """Suspend the process and its children."""
    stopped = [psutil.Process(pid), *psutil.Process(pid).children()]
    for each in stopped:
        each.suspend()
    time.sleep(seconds)
    for each in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.resume()
