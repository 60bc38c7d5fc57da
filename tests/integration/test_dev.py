"""`wallet-engine dev`, as a person uses it: start, dev.json, restart of dead processes, stop, start again (G9).

Tests that leave the cluster serving share one data directory per mode; each test has accounts of its own.
"""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.advice import noted
from support.dev_process import DevCluster
from support.replicated import ReplicatedShard, command
from unit.admin.made import admin

from wallet_engine.dev.ports import port_is_free
from wallet_engine.dev.probing import probe
from wallet_engine.dev.process import identify, wait_until


def call(url: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    """Status and JSON of one request."""
    request = urllib.request.Request(url + path, None if body is None else json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def pay(url: str, sender: str, receiver: str, amount: str, transaction_id: str) -> tuple[int, dict[str, Any]]:
    return call(
        url,
        "/v1/wallet/balance_transfer",
        {
            "from_account": sender,
            "to_account": receiver,
            "amount": amount,
            "currency": "USD",
            "transaction_id": transaction_id,
        },
    )


def pay_until_answered(url: str, sender: str, receiver: str, amount: str) -> None:
    """Repeat a payment with its id until it is answered with success."""
    transaction_id = str(uuid.uuid4())

    def answered() -> bool:
        try:
            status, answer = pay(url, sender, receiver, amount, transaction_id)
        except (OSError, http.client.HTTPException):
            return False
        assert status in (200, 503), answer
        return status == 200

    assert wait_until(answered, 40, poll_s=0.2)


def balance(url: str, account: str) -> str:
    status, answer = call(url, f"/v1/accounts/{account}/balance?currency=USD")
    assert status == 200, answer
    return str(answer["balance"])


def open_funded(url: str, *names: str) -> list[str]:
    """New accounts with 100.00 each, called by these names with a suffix."""
    run = uuid.uuid4().hex[:8]
    accounts = [f"{name}-{run}" for name in names]
    for account in accounts:
        assert call(url, "/v1/accounts", {"account_id": account, "currency": "USD"})[0] == 201
        assert pay(url, "@bank", account, "100.00", str(uuid.uuid4()))[0] == 200
    return accounts


def none_left(pids: list[int]) -> bool:
    return wait_until(lambda: not any(identify(pid) for pid in pids), 5)


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    started = DevCluster(tmp_path_factory.mktemp("dev") / "dev", shards=2, apis=2, embedded=request.param)
    try:
        yield started.start()
    finally:
        started.kill_all()


@pytest.fixture
def cluster(shared: DevCluster) -> DevCluster:
    """Two shards and two API processes that serve; a test may stop and kill any process, if it restarts it."""
    shared.wait_ready()
    return shared


README = Path(__file__).parents[2] / "README.md"
EMBEDDED = pytest.mark.parametrize("shared", [True], ids=["embedded"], indirect=True)
ZOOKEEPER = pytest.mark.parametrize("shared", [False], ids=["zookeeper"], indirect=True)
MODES = pytest.mark.parametrize("shared", [True, False], ids=["embedded", "zookeeper"], indirect=True)


@MODES
def test_a_cluster_takes_transfers_stops_and_continues(
    cluster: DevCluster, request: pytest.FixtureRequest
) -> None:
    embedded = "embedded" in request.node.name
    state = cluster.state()
    assert state["api"] == cluster.url
    assert (state["zookeeper"] is None) == embedded
    roles = [process["role"] for process in state["processes"]]
    assert roles == ["redis"] * 2 + ["zookeeper"] * (not embedded) + ["journal"] + ["api"] * 2
    assert [process["shard"] for process in cluster.processes("redis")] == ["s1", "s2"]
    assert [process["address"] for process in cluster.processes("api")] == [u[7:] for u in cluster.urls]
    assert all(identify(pid) for pid in cluster.pids())

    ann, bob, eve = open_funded(cluster.url, "ann", "bob", "eve")
    for receiver in (bob, eve):
        assert pay(cluster.urls[1], ann, receiver, "1.50", str(uuid.uuid4()))[0] == 200
    pids = cluster.pids()
    assert cluster.stop() == 0
    assert none_left(pids)
    assert cluster.state()["processes"] == []

    cluster.start()
    assert not set(cluster.pids()) & set(pids)
    assert [balance(cluster.url, account) for account in (ann, bob, eve)] == ["97.00", "101.50", "101.50"]


@EMBEDDED
def test_each_partition_says_what_it_has_waiting(cluster: DevCluster) -> None:
    with urllib.request.urlopen(f"{cluster.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    for name in ("queued_operations", "open_entries", "oldest_open_seconds"):
        assert sum(line.startswith(f'wallet_partition_{name}{{partition="') for line in lines) == 16


@EMBEDDED
def test_g14_a_balance_that_the_bundled_server_would_forget(cluster: DevCluster) -> None:
    """The bundled server's hashes can have a time to live for a single field."""
    accounts = open_funded(cluster.url, *"abcdefgh")
    node = cluster.processes("redis")[0]
    keys = list(command(node, "KEYS", "balance:USD*"))
    held = [(key, account) for key in keys for account in accounts if command(node, "HEXISTS", key, account)]
    key, account = held[0]
    assert command(node, "HEXPIRE", key, "600", "FIELDS", "1", account) == [1]
    (found,) = expiries(cluster)
    assert (found["severity"], found["what"].split(" of ")[0]) == ("error", f"{account} in {key}")
    subprocess.run(["bash", "-c", noted(found)], check=True)
    assert command(node, "HTTL", key, "FIELDS", "1", account) == [-1]
    assert not expiries(cluster)


def expiries(cluster: DevCluster) -> list[dict[str, Any]]:
    result = admin("doctor", "--json", *cluster.coordination_flags())
    return [found for found in json.loads(result.stdout)["findings"] if found["check"] == "expiry"]


@EMBEDDED
def test_dev_json_says_where_the_journal_is_measured(cluster: DevCluster) -> None:
    for journal in cluster.processes("journal"):
        with urllib.request.urlopen(f"http://{journal['metrics']}/metrics", timeout=10) as answer:
            assert b"wallet_journal_sync_duration_seconds_count" in answer.read()


@MODES
def test_processes_of_one_machine_do_not_preempt_each_other(cluster: DevCluster) -> None:
    assert {os.sched_getscheduler(pid) for pid in cluster.pids()} == {os.SCHED_BATCH}


@ZOOKEEPER
@pytest.mark.parametrize("role", ["redis", "zookeeper", "journal", "api"])
def test_g9_a_killed_child_is_started_again_and_nothing_is_lost(cluster: DevCluster, role: str) -> None:
    """G9: kill -9 of any one process, and at once of its replacement, loses no answered transfer."""
    ann, bob = open_funded(cluster.url, "ann", "bob")
    victim = cluster.living(role)
    pids = [cluster.kill(victim["name"]) for _ in range(2)]
    assert len({victim["pid"], *pids}) == 2
    pay_until_answered(cluster.url, ann, bob, "1.00")
    cluster.wait_replaced(pids[1])
    successor = cluster.living(victim["name"])
    assert {**successor, "pid": 0} == {**victim, "pid": 0}
    pay_until_answered(cluster.url, ann, bob, "1.00")
    cluster.wait_ready()
    assert [balance(cluster.url, account) for account in (ann, bob)] == ["98.00", "102.00"]


@EMBEDDED
def test_an_api_process_that_is_told_to_end_answers_for_a_moment(cluster: DevCluster) -> None:
    """So no caller's connection breaks during a request. Three tries, because the moment is a quarter of a second."""

    def leaves() -> bool:
        cluster.wait_ready()
        victim = cluster.living("api-2")
        os.kill(victim["pid"], signal.SIGTERM)
        while "about to end" not in (said := probe(victim["address"])[1]):
            if "no answer" in said:
                return False
        cluster.wait_replaced(victim["pid"])
        return True

    assert any(leaves() for _ in range(3))


@pytest.mark.soak  # `tests/faults/test_failover.py` has similar tests
def test_g9_a_dead_primary_leaves_its_shard_to_the_replica(dev_cluster: Any) -> None:
    """G9: with a replica, the dead primary comes back as the replica of the one that took over."""
    cluster: DevCluster = dev_cluster(shards=3, replicas=1)
    ann, bob = open_funded(cluster.url, "ann", "bob")
    cluster.restart("s1-1")
    pay_until_answered(cluster.url, ann, bob, "1.00")
    assert [balance(cluster.url, account) for account in (ann, bob)] == ["99.00", "101.00"]


@pytest.mark.soak
def test_a_primary_without_slots_follows_who_has_them(dev_cluster: Any) -> None:
    """It may come back after its shard got a partition: Redis then leaves it a primary, and no node's replica."""
    cluster: DevCluster = dev_cluster(shards=3, replicas=1, embedded=True)
    primary, replica = cluster.living("s1-1"), cluster.living("s1-2")
    host, _, port = primary["address"].rpartition(":")
    command(replica, "CLUSTER", "RESET", "SOFT")
    command(replica, "CLUSTER", "MEET", host, port)
    assert command(replica, "ROLE")[0] == "master"
    shard = ReplicatedShard(cluster, "s1", 16)
    shard.wait_in_sync()
    assert shard.primary()["name"] == "s1-1"
    assert "s1-2 is a primary without slots: it follows s1-1 now" in cluster.stderr_path.read_text()


@ZOOKEEPER
def test_g5_after_everything_was_killed_the_next_start_has_every_balance(cluster: DevCluster) -> None:
    """G5: all Redis nodes, and everything else, lose their memory at once: no answer given is lost."""
    ann, bob = open_funded(cluster.url, "ann", "bob")
    transaction_id = str(uuid.uuid4())
    assert pay(cluster.url, ann, bob, "10.00", transaction_id)[0] == 200
    cluster.kill_all()
    cluster.start()
    assert pay(cluster.url, ann, bob, "10.00", transaction_id)[0] == 200
    assert [balance(cluster.url, account) for account in (ann, bob)] == ["90.00", "110.00"]


@ZOOKEEPER
def test_orphans_of_a_killed_supervisor_do_not_block_the_next_start(cluster: DevCluster) -> None:
    (ann,) = open_funded(cluster.url, "ann")
    orphans = cluster.pids()
    cluster.kill_supervisor()
    assert all(identify(pid) for pid in orphans)

    cluster.start()
    assert none_left(orphans)
    assert "left over from a killed dev" in cluster.stderr_path.read_text()
    assert balance(cluster.url, ann) == "100.00"


@EMBEDDED
def test_a_directory_in_use_and_other_wrong_wishes_are_one_line(cluster: DevCluster) -> None:
    def refused(*changed: str) -> str:
        argv = [sys.executable, "-m", "wallet_engine", "dev", "--data-dir", str(cluster.data_dir), *changed]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        return done.stderr

    assert "is in use by a running wallet-engine dev" in refused()
    assert "was made with --shards 2, not 3" in refused("--shards", "3")
    assert f"port {cluster.port} is in use" in refused_elsewhere(cluster.port, cluster.data_dir.parent)


def refused_elsewhere(port: int, folder: Path) -> str:
    argv = [sys.executable, "-m", "wallet_engine", "dev", "--embedded", "--port", str(port)]
    done = subprocess.run(
        [*argv, "--data-dir", str(folder / "other")], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_partitions_must_be_a_power_of_two(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "wallet_engine", "dev", "--embedded", "--partitions", "48"]
    done = subprocess.run(
        [*argv, "--data-dir", str(tmp_path / "d")], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2
    assert "partitions must be a power of two" in done.stderr
    assert not (tmp_path / "d").exists()


@MODES
def test_what_readme_shows_a_newcomer_works_as_it_stands(cluster: DevCluster) -> None:
    """Its commands are pasted into a shell; only the cluster's address and the paths are replaced."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    pasted = "\n".join(block for block in blocks if "$W" in block and "wk_…" not in block)
    for shown, here in (
        ("http://127.0.0.1:8080", cluster.url),
        (". .venv/bin/activate", f"PATH='{Path(sys.executable).parent}':$PATH"),
        ("data/admin.env", f"'{cluster.data_dir}/admin.env'"),
    ):
        assert shown in pasted
        pasted = pasted.replace(shown, here)
    env = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
    done = subprocess.run(
        ["bash", "-euc", pasted], capture_output=True, text=True, env=env, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"code"' not in done.stdout
    assert "idempotent-replayed: true" in done.stdout.lower()
    assert [shown for shown in ("s1", "s2", "j1") if shown not in done.stdout] == []
    assert sum(Decimal(balance(cluster.url, account)) for account in ("alice", "bob", "@fees")) == 100


def test_ports_that_were_asked_for_are_given_to_nobody_else(tmp_path: Path) -> None:
    """The range has 8 ports, for Redis, three copies, and the copies' metrics from the first port on."""
    first = next(port for port in range(6_000, 9_000, 8) if all(map(port_is_free, range(port, port + 8))))
    environ = {"WALLET_DEV_PORTS": f"{first}-{first + 7}", "WALLET_METRICS_PORT": str(first)}
    dev = DevCluster(tmp_path / "dev", embedded=True, extra=("--journals", "3"), environ=environ)
    try:
        dev.start()
        measured = [process["metrics"] for process in dev.processes("journal")]
        assert measured == [f"127.0.0.1:{first + number}" for number in range(3)]
    finally:
        dev.kill_all()
