"""Each alert of `alerts.yml` is made to fire by real processes that Debian's Prometheus scrapes.

The rules are those that we ship, without `for`: an alert fires as soon as its expression is true. So the tests also
show that no expression is true on a healthy cluster.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from support.clocks import Clocks
from support.dev_process import DevCluster, end, json_admin
from support.http_client import HttpClient, NoReply
from support.journal_copies import folder
from support.prometheus import Prometheus, prometheus
from support.redis_peek import node_of
from support.replicated import Process, command, supervisor_sleeps, wait_until
from support.rogue import Rogue, client_context, standings
from support.slow_disk import SlowDisks
from support.stopped import stopped, trimming_refused
from support.wallet_api import WalletApi, new_id, transfer_body

from wallet_engine.dev.ports import free_port
from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import RULES, EntryHeader
from wallet_engine.domain.operation import parse_operation
from wallet_engine.domain.principals import checked
from wallet_engine.journal.copies_wire import PeerHello
from wallet_engine.journal.link_wire import NewEntries, Receipts, ServiceHello
from wallet_engine.journal.segments import segment_path
from wallet_engine.routing.model import spread
from wallet_engine.telemetry.authority import Authority

SHIPPED: Final = Path(__file__).parents[2] / "cluster_config" / "alerts.yml"
PARTITIONS: Final = 16
COPIES: Final = 3
#: Partitions of the second shard, whose Redis node gets into trouble, and of the first.
SICK: Final = spread(PARTITIONS, ("s1", "s2")).partitions_of("s2")
WELL: Final = spread(PARTITIONS, ("s1", "s2")).partitions_of("s1")
#: On a busy machine.
FIRES_S_MAX: Final = 120.0
STREAM_ENTRIES_MAX: Final = 256
#: More than a snapshot ever waits for.
UNSNAPSHOTTED_BYTES: Final = 5_000_000_000
#: Open calls of a caller that does not wait for answers.
CALLS_MAX: Final = 1000
BATCH: Final = "/v1/transfers/batch"

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="there is no prometheus here"),
]

#: Alerts that a test here has seen fire.
fired: set[str] = set()


def written(path: Path, jobs: dict[str, tuple[str, list[str]]]) -> Path:
    """The configuration of a Prometheus that scrapes these (job -> how often, targets) by rules that fire at once."""
    rules = yaml.safe_load(SHIPPED.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule.pop("for", None)
    (path / "alerts.yml").write_text(yaml.safe_dump(rules))
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path / "alerts.yml")],
        "scrape_configs": [
            {"job_name": job, "scrape_interval": every, "static_configs": [{"targets": targets}]}
            for job, (every, targets) in jobs.items()
        ],
    }
    (path / "prometheus.yml").write_text(yaml.safe_dump(config))
    return path / "prometheus.yml"


def firing(looking: Prometheus) -> set[str]:
    found = looking.asked("alerts")["alerts"]
    return {each["labels"]["alertname"] for each in found if each["state"] == "firing"}


class Watched:
    """A cluster, what can be done to it, and the Prometheus that looks at it."""

    def __init__(self, path: Path) -> None:
        self.clocks = Clocks(path, ("s1-1", "s2-1"))
        self.disks = SlowDisks(path)
        self.archive_is_away = path / "away"
        self.metrics_port = free_port(run=COPIES)
        libraries = f"{self.clocks.environ['LD_PRELOAD']} {self.disks.environ['LD_PRELOAD']}"
        self.dev = DevCluster(
            path / "dev",
            shards=2,
            partitions=PARTITIONS,
            extra=(
                *("--journals", str(COPIES), "--certificates", "--history", "--oracle"),
                *("--segment-bytes", "65536", "--snapshot-bytes", str(2 * UNSNAPSHOTTED_BYTES)),
                *("--archive-command", f"test ! -e {self.archive_is_away} # %p"),
            ),
            environ={
                **self.clocks.environ,
                **self.disks.environ,
                "LD_PRELOAD": libraries,
                "WALLET_METRICS_PORT": str(self.metrics_port),
            },
        )

    @property
    def copies(self) -> list[Path]:
        """The folders of the journal copies."""
        return [folder(self.dev, number + 1) for number in range(COPIES)]

    def config(self, path: Path) -> Path:
        jobs: dict[str, tuple[str, list[str]]] = {
            "wallet-api": ("1s", [process["address"] for process in self.dev.processes("api")]),
            "wallet-journal": ("1s", [f"127.0.0.1:{self.metrics_port + number}" for number in range(COPIES)]),
            # Scraped less often, because a test makes the oracle slow.
            "wallet-follower": ("5s", [self.dev.living(role)["address"] for role in ("follower", "oracle")]),
        }
        return written(path, jobs)

    def start(self, looking: Prometheus) -> None:
        self.looking = looking

    def firing(self) -> set[str]:
        return firing(self.looking)

    @contextlib.contextmanager
    def to_fire(self, *alerts: str) -> Iterator[None]:
        """No alert fires before the block; each has fired once before the callbacks of `inside` undo the fault."""
        wait_until(lambda: self.firing().isdisjoint(alerts), "none fires before", FIRES_S_MAX, self.firing)
        missing = set(alerts)

        def all_fired() -> bool:
            missing.difference_update(self.firing())
            return not missing

        with contextlib.ExitStack() as inside:
            self.inside = inside
            yield
            wait_until(all_fired, "they fire", FIRES_S_MAX, lambda: (missing, self.looking.asked("alerts")))
        fired.update(alerts)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    path = tmp_path_factory.mktemp("alerts")
    made = Watched(path)
    try:
        made.dev.start()
        with prometheus(made.config(path), path) as looking:
            wait_until(looking.health, "it answers", FIRES_S_MAX)
            made.start(looking)
            yield made
    finally:
        made.dev.kill_all()


@pytest.fixture
def api(watched: Watched) -> Iterator[WalletApi]:
    watched.dev.wait_ready()
    with WalletApi(watched.dev.url, PARTITIONS) as client:
        yield client


def batches(url: str, bodies: list[dict[str, str]], stop: threading.Event) -> None:
    """Send the same payments under new ids again and again, whatever the answers are."""

    async def main() -> None:
        async with HttpClient() as http:
            while not stop.is_set():
                transfers = [{**body, "transaction_id": new_id()} for body in bodies]
                with contextlib.suppress(NoReply):
                    await http.post(f"{url}{BATCH}", {"transfers": transfers})

    asyncio.run(main())


@contextlib.contextmanager
def paying(watched: Watched, bodies: list[dict[str, str]], callers: int = 1) -> Iterator[None]:
    """Callers pay meanwhile, in batches."""
    stop = threading.Event()
    threads = [threading.Thread(target=batches, args=(watched.dev.url, bodies, stop)) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_none_fires_while_all_is_well(watched: Watched, api: WalletApi) -> None:
    def all_scraped() -> bool:
        return [state for _, state in watched.looking.health()] == ["up"] * (1 + COPIES + 2)

    wait_until(all_scraped, "every process is scraped", FIRES_S_MAX, watched.looking.health)
    wait_until(lambda: not watched.firing(), "what fires while it starts ends", FIRES_S_MAX, watched.firing)
    ann, bob = api.account(WELL[0], "1000.00"), api.account(SICK[0])
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        api.paid(ann, bob, "0.01")
        assert not watched.firing()


def test_redis_refuses_writes(watched: Watched, api: WalletApi) -> None:
    ann, bob = api.account(SICK[0], "1000.00"), api.account(SICK[0])
    node = node_of(watched.dev, SICK[0], PARTITIONS)
    with watched.to_fire("WalletRedisRefusesWrites", "WalletTransfersFail"):
        command(node, "CONFIG", "SET", "min-replicas-to-write", 1)
        watched.inside.callback(command, node, "CONFIG", "SET", "min-replicas-to-write", 0)
        watched.inside.enter_context(paying(watched, [transfer_body(ann, bob, "0.01", new_id())]))


def test_memory_is_nearly_full(watched: Watched, api: WalletApi) -> None:
    node = node_of(watched.dev, SICK[0], PARTITIONS)
    with watched.to_fire("WalletMemoryFull"):
        used = int(command(node, "INFO", "memory")["used_memory"])
        command(node, "CONFIG", "SET", "maxmemory", used * 20 // 19)
        watched.inside.callback(command, node, "CONFIG", "SET", "maxmemory", 0)


def test_clocks_are_apart(watched: Watched) -> None:
    with watched.to_fire("WalletClocksApart"):
        watched.inside.enter_context(watched.clocks.stepped(3600, "s2-1"))


def test_somebody_has_paused_payments(watched: Watched) -> None:
    with watched.to_fire("WalletPaused"):
        assert json_admin(watched.dev, "pause", "--reason", "a test")[0] == 0
        watched.inside.callback(json_admin, watched.dev, "unpause")


def test_a_certificate_ends(watched: Watched) -> None:
    with watched.to_fire("WalletCertificateEnds", "WalletCertificateEndsSoon"):
        ca = watched.dev.data_dir / "ca"
        renewed = partial(Authority(ca).issue, checked("journal", "j2"), out=ca, renew=True)
        renewed(days=5)
        watched.inside.callback(renewed)


def test_the_archive_is_away(watched: Watched, api: WalletApi) -> None:
    ann, bob = api.account(WELL[0], "1000.00"), api.account(WELL[1])
    many = [transfer_body(ann, bob, "0.01", new_id()) for _ in range(500)]
    with watched.to_fire("WalletArchiveFails", "WalletArchiveBehind"):
        watched.archive_is_away.touch()
        watched.inside.callback(watched.archive_is_away.unlink)
        watched.inside.enter_context(paying(watched, many))


def test_snapshots_are_not_made(watched: Watched) -> None:
    """A sealed segment is made longer by `truncate`; nothing reads it meanwhile."""
    sealed = segment_path(watched.copies[1], 1)
    size = sealed.stat().st_size
    with watched.to_fire("WalletSnapshotsMissing"):
        os.truncate(sealed, UNSNAPSHOTTED_BYTES)
        watched.inside.callback(os.truncate, sealed, size)


def test_disks_are_slow(watched: Watched, api: WalletApi) -> None:
    ann, bob = api.account(WELL[0], "1000.00"), api.account(WELL[1])
    with watched.to_fire("WalletJournalDiskSlow", "WalletAnswersSlow"):
        watched.inside.enter_context(watched.disks.slowed(700, *watched.copies))
        stop = threading.Event()
        threads = [threading.Thread(target=singles, args=(watched.dev.url, ann, bob, stop)) for _ in range(8)]
        for thread in threads:
            thread.start()
            watched.inside.callback(thread.join)
        watched.inside.callback(stop.set)


def singles(url: str, payer: str, to: str, stop: threading.Event) -> None:
    with WalletApi(url, PARTITIONS) as api:
        while not stop.is_set():
            api.pay(payer, to, "0.01")


def test_a_disk_hangs(watched: Watched, api: WalletApi) -> None:
    """The whole copy waits for its disk, its lag metric too; the other two copies are enough for an answer."""
    ann, bob = api.account(WELL[0], "1000.00"), api.account(WELL[0])
    with watched.to_fire("WalletJournalBehind"):
        watched.inside.enter_context(watched.disks.slowed(15_000, watched.copies[2]))
        watched.inside.enter_context(asking(watched.dev.url, [transfer_body(ann, bob, "0.01", new_id())]))
        wait_until(
            lambda: watched.looking.asked("query?query=wallet_journal_disk_wait_seconds>5")["result"],
            "it is said that it stands still",
            FIRES_S_MAX,
        )


def test_no_copy_confirms(watched: Watched, api: WalletApi) -> None:
    alerts = ("WalletJournalQuorumLost", "WalletNotReady", "WalletNothingPaid")
    with watched.to_fire(*alerts):
        watched.inside.enter_context(stopped(*watched.dev.processes("journal")[1:]))


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[tuple[DevCluster, Prometheus]]:
    """A small cluster whose streams take few entries."""
    extra = ("--stream-entries-max", str(STREAM_ENTRIES_MAX))
    dev = DevCluster(tmp_path / "dev", partitions=PARTITIONS, embedded=True, extra=extra)
    try:
        dev.start()
        config = {"wallet-api": ("1s", [process["address"] for process in dev.processes("api")])}
        with prometheus(written(tmp_path, config), tmp_path) as looking:
            wait_until(looking.health, "it answers", FIRES_S_MAX)
            yield dev, looking
    finally:
        dev.kill_all()


def test_a_stream_fills(cramped: tuple[DevCluster, Prometheus]) -> None:
    dev, looking = cramped
    (node,) = dev.processes("redis")
    assert "WalletStreamFull" not in firing(looking)
    with WalletApi(dev.url, PARTITIONS) as api, trimming_refused(node):
        ann, bob = api.account(0, "1000.00"), api.account(0)
        wait_until(lambda: api.pay(ann, bob, "0.01").status == 503, "it is full")
        wait_until(lambda: "WalletStreamFull" in firing(looking), "it fires", FIRES_S_MAX)
    fired.add("WalletStreamFull")


@contextlib.contextmanager
def asking(url: str, bodies: list[dict[str, str]]) -> Iterator[None]:
    """A caller sends batch after batch without waiting for answers; at the end it waits for all of them."""
    stop = threading.Event()

    async def ask(http: HttpClient) -> None:
        transfers = [{**body, "transaction_id": new_id()} for body in bodies]
        with contextlib.suppress(NoReply):
            await http.post(f"{url}{BATCH}", {"transfers": transfers})

    async def main() -> None:
        room = asyncio.Semaphore(CALLS_MAX)
        async with HttpClient() as http, asyncio.TaskGroup() as calls:
            while not stop.is_set():
                await room.acquire()
                calls.create_task(ask(http)).add_done_callback(lambda _: room.release())
                await asyncio.sleep(0.002)

    with meanwhile(lambda: asyncio.run(main()), stop):
        yield


@contextlib.contextmanager
def meanwhile(work: Callable[[], None], stop: threading.Event) -> Iterator[None]:
    """Run `work` in a thread until `stop` tells it to end."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_the_oracle_is_slower_than_payments(watched: Watched, api: WalletApi) -> None:
    ann, bob = api.account(WELL[0], "1000000.00"), api.account(WELL[1])
    many = [transfer_body(ann, bob, "0.01", new_id()) for _ in range(1000)]
    with watched.to_fire("WalletOracleBehind"):
        watched.inside.enter_context(throttled(watched.dev.living("oracle"), 0.02))
        watched.inside.enter_context(paying(watched, many, callers=2))


@contextlib.contextmanager
def throttled(process: Process, share: float) -> Iterator[None]:
    """The process runs for this share of the time and is stopped for the rest."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            os.kill(process["pid"], signal.SIGSTOP)
            stop.wait(1.0 - share)
            os.kill(process["pid"], signal.SIGCONT)
            stop.wait(share)

    with meanwhile(run, stop):
        yield


def test_processes_are_dead(watched: Watched) -> None:
    """A journal copy, PostgreSQL, and a shard's only primary with a transfer on its way to it."""
    dev = watched.dev
    dev.wait_ready()
    node, paid = node_of(dev, SICK[0], PARTITIONS), new_id()
    alerts = (
        "WalletProcessDown",
        "WalletPartitionsDown",
        "WalletRecoveryFails",
        "WalletTransfersInterrupted",
    )
    with watched.to_fire(*alerts, "WalletFollowerFails", "WalletFollowerBehind"):
        watched.inside.enter_context(supervisor_sleeps(dev))
        with WalletApi(dev.url, PARTITIONS) as api:
            ann, bob = api.account(WELL[0], "1000.00"), api.account(SICK[0])
            watched.inside.enter_context(stopped(node))
            assert api.pay(ann, bob, "0.01", transaction_id=paid).json()["code"] == "outcome_unknown"
        dev.kill("journal-j3")
        dev.kill(node["name"])
        end(*postgres(dev))
    with WalletApi(dev.url, PARTITIONS) as api:
        wait_until(lambda: api.find(ann, paid).json().get("status") == "success", "it ends", FIRES_S_MAX)
        assert api.balance(bob) == "0.01"


def postgres(dev: DevCluster) -> list[int]:
    (process,) = dev.processes("database")
    return [process["pid"]]


def test_no_api_process_is_left(watched: Watched, api: WalletApi) -> None:
    """Then no process is left that reports that it is not ready."""
    with watched.to_fire("WalletNothingPaid"):
        watched.inside.enter_context(supervisor_sleeps(watched.dev))
        watched.dev.kill("api-1")


def test_an_entry_is_minted(watched: Watched, api: WalletApi) -> None:
    """A thief with a service's certificate appends a credit without a debit to every copy."""
    ca = watched.dev.data_dir / "ca"
    thief = Authority(ca).issue(checked("service", "thief"), out=ca, renew=True)
    context = client_context(ca / "ca.pem", thief)
    mallory = api.account(SICK[1], "1.00")
    addresses: Mapping[str, Any] = {p["name"]: p["address"] for p in watched.dev.processes("journal")}
    reader = Authority(ca).issue(checked("admin", "reader"), out=ca, renew=True)
    with Rogue(addresses["journal-j1"], client_context(ca / "ca.pem", reader)) as rogue:
        at = standings(rogue.say(PeerHello("reader")))
    last = at[SICK[1]]
    header = EntryHeader(
        last.seq + 1,
        last.nonce,
        "deadbeef" + new_id()[:8],
        last.view,
        int(time.time() * 1000),
        1,
        "+",
        RULES,
        0,
    )
    row = f"c {WELL[0]}.{at[WELL[0]].seq} {mallory} 0 100000 USD"
    entry = (SICK[1], header.text().encode(), pack([parse_operation(row)]).columns)
    with watched.to_fire("WalletEntryNotRight"):
        for address in addresses.values():
            rogue = watched.inside.enter_context(Rogue(address, context))
            assert rogue.say(ServiceHello("thief"), NewEntries([entry])).answer(Receipts)


def test_every_alert_was_seen() -> None:
    rules = yaml.safe_load(SHIPPED.read_text())["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} == fired
