"""Followers are killed under traffic: every event of the journal is in the log once, and has arrived at the webhook.

What must have been told is made of the journal's own files, not of what the followers have written.
"""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from support.databases import asked
from support.dev_process import DevCluster
from support.paying import Paying
from support.webhook_server import WebhookServer

from wallet_engine.events.event import Event
from wallet_engine.events.maker import Maker, from_first
from wallet_engine.history.database import migrate
from wallet_engine.journal.feed import DirectoryFeed, partitions_from_start

PARTITIONS = 16
KILLS = 7
SETTLE_S_MAX = 90.0

pytestmark = pytest.mark.timeout(300)


class Followers:
    """Processes that follow for webhooks; each can be killed, and another takes its name."""

    def __init__(self, cluster: DevCluster, url: str, log: Path) -> None:
        self._argv = [sys.executable, "-m", "wallet_engine", "follow", "--to", "webhooks"]
        self._argv += [*cluster.coordination_flags(), "--webhooks-allow-private"]
        self._environ = {**os.environ, "WALLET_DATABASE": url}
        self._log = log
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        with self._log.open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*self._argv, "--follower-id", name], stdout=log, stderr=log, env=self._environ
            )

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        assert process.poll() is None, self._log.read_text("utf-8")[-3000:]
        process.kill()
        process.wait()

    def stop(self) -> None:
        for name in list(self.running):
            self.kill(name)


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
    """Reads `GET /v1/events` behind what it has, waiting for more."""

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


@contextlib.contextmanager
def running(cluster: DevCluster, url: str, log: Path) -> Iterator[Followers]:
    followers = Followers(cluster, url, log)
    try:
        yield followers
    finally:
        followers.stop()


def posted(url: str, body: dict[str, Any]) -> dict[str, Any]:
    asking = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(asking, timeout=30) as answer:
        said: dict[str, Any] = json.load(answer)
    return said


def events_in(journal: Path) -> list[Event]:
    """Every event of a journal's files."""

    async def main() -> list[Event]:
        maker = Maker(DirectoryFeed(journal))
        for partition in range(PARTITIONS):
            maker.begin(partition, from_first())
        found = []
        feed = DirectoryFeed(journal, ends=True)
        async for batch in feed.follow(partitions_from_start(range(PARTITIONS))):
            for made in await maker.make(batch):
                found += made.events
        return found

    return asyncio.run(main())


def test_followers_killed_under_traffic(dev_cluster: Any, history_url: str, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    asked(history_url, migrate)
    environ = {"WALLET_DATABASE": history_url, "WALLET_WEBHOOKS_ALLOW_PRIVATE": "1"}
    cluster: DevCluster = dev_cluster(embedded=True, partitions=PARTITIONS, environ=environ)
    paying = Paying(cluster, callers_count=8)
    log = tmp_path / "follow.log"
    with Receiver() as server, running(cluster, history_url, log) as followers, Poller(cluster.url) as poller:
        wish = {"url": server.url("/hook"), "types": ["*"]}
        secret = posted(f"{cluster.url}/v1/webhooks", wish)["secret"]
        followers.start("f0")
        followers.start("f1")
        with paying.running():
            for number in range(KILLS):
                time.sleep(chance.uniform(0.3, 2.5))
                name = f"f{number % 2}"
                followers.kill(name)
                followers.start(name)
        (journal,) = [Path(p["directory"]) for p in cluster.processes("journal") if "directory" in p] or [
            cluster.data_dir / "journal"
        ]
        wanted = {event.id: event for event in events_in(journal)}
        deadline = time.monotonic() + SETTLE_S_MAX
        while {each.headers["webhook-id"] for each in server.received} != wanted.keys():
            assert time.monotonic() < deadline, (
                f"{len(wanted)} events, {len(server.received)} received\n{log.read_text('utf-8')[-3000:]}"
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
        logged = [event["id"] for event in poller.events if event["subject"] == subject]
        assert [name for name in first if wanted[name].subject == subject] == logged
    last = server.received[-1]
    assert Webhook(secret).verify(last.body, last.headers)
    # Of each payment, one event that says what its caller was told.
    told = [event for event in poller.events if event["type"].startswith("transfer.")]
    by_id = {event["data"]["transaction_id"]: event for event in told}
    assert len(by_id) == len(told)
    for payment in paying.books.answered:
        event = by_id[payment.transaction_id]
        said = "success" if event["type"] == "transfer.succeeded" else event["data"]["code"]
        assert said == payment.answer
