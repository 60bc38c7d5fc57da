"""G4, G9, G11: wall clocks of real processes step or differ. Monotonic clocks stay right, as they do on machines.

All tests share a cluster, so a test may find partitions whose recorded time an earlier test has left in the future.
"""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from faults.test_sweeper import SENDERS_AT, SWEPT_S_MAX
from support.advice import run_advice
from support.clocks import Clocks
from support.dev_process import DevCluster
from support.paying import Paying, cluster_directory
from support.redis_peek import open_debits
from support.replicated import command, kill, wait_until
from support.stopped import stopped
from support.strand import strand
from support.verification import verified
from support.wallet_api import WalletApi, check_success, new_id, transfer_body

from wallet_engine.redis_store.topology import view_node

PARTITIONS = 16
NODES = ("s1-1", "s2-1")
HOUR_S = 3600
#: Until an expired hold is released, on a loaded machine; usually 5 s.
EXPIRED_S_MAX = 15.0


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> Clocks:
    return Clocks(tmp_path_factory.mktemp("stepped"), (*NODES, "api-1", "api-2", "j1"))


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, clocks: Clocks) -> Iterator[DevCluster]:
    path = tmp_path_factory.mktemp("clocks") / "dev"
    cluster = DevCluster(path, shards=2, partitions=PARTITIONS, apis=2, environ=clocks.environ)
    try:
        yield cluster.start()
        verified(cluster)  # nothing in Redis was rebuilt meanwhile, so this checks the writes of all tests
    finally:
        cluster.kill_all()


@pytest.fixture
def cluster(started: DevCluster, clocks: Clocks) -> Iterator[DevCluster]:
    """Every test begins and ends with right clocks."""
    started.wait_ready()
    yield started
    clocks.step(0)


def test_g9_a_node_that_starts_before_its_clock_is_set_back_serves(
    cluster: DevCluster, clocks: Clocks
) -> None:
    """Redis waits two seconds by its wall clock before it serves, which would now take two days. `dev` restarts it."""
    node = next(process for process in cluster.processes("redis") if process["name"] == NODES[1])
    clocks.step(50 * HOUR_S)
    kill(node)
    cluster.wait_replaced(node["pid"])
    wait_until(lambda: view_node(node["address"]) is not None, "it answers again")
    clocks.step(0)
    down = command(node, "CLUSTER", "INFO")
    assert "fail" in str(down), down
    findings = admin(cluster, "doctor", status=(1,))["findings"]
    assert any("its clock was set back" in str(finding) for finding in findings), findings
    cluster.wait_ready()


def admin(cluster: DevCluster, *argv: str, status: Sequence[int] = (0,)) -> Any:
    """The document of a `wallet-admin` verb, which runs by the machine's clock."""
    command = str(Path(sys.executable).with_name("wallet-admin"))
    run = subprocess.run(
        [command, *cluster.coordination_flags(), "--json", *argv], capture_output=True, text=True, timeout=60
    )
    assert run.returncode in status, run.stdout[-2000:] + run.stderr[-2000:]
    return json.loads(run.stdout)


def readyz(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def pay_everywhere(api: WalletApi, payers: Sequence[str], *, offset: int = 5) -> None:
    """One cent from each payer to another one, most of them across partitions; all succeed."""
    for number, payer in enumerate(payers):
        api.paid(payer, payers[(number + offset) % len(payers)], "0.01")


def nothing_is_open(cluster: DevCluster) -> None:
    """Wait for it, as long as sweepers need."""
    wait_until(
        lambda: not any(open_debits(cluster, partition, PARTITIONS) for partition in range(PARTITIONS)),
        "every transfer has ended",
        SWEPT_S_MAX,
    )
    assert admin(cluster, "pending")["entries"] == []


@pytest.mark.parametrize("seconds", [pytest.param(600, marks=pytest.mark.soak), -600, 25 * HOUR_S])
def test_g9_the_clock_of_a_service_stops_no_payment(
    cluster: DevCluster, clocks: Clocks, seconds: float
) -> None:
    """`readyz` and `doctor` report clocks that are 10 minutes or more apart, and payments go on."""
    with WalletApi(cluster.urls[0], PARTITIONS) as api:
        payers = [api.account(partition, "1.00") for partition in range(PARTITIONS)]
        with clocks.stepped(seconds, "api-1"):
            pay_everywhere(api, payers)

            def said() -> bool:
                status, document = readyz(cluster.urls[0])
                return status == 503 and [c["condition"] for c in document["conditions"]] == ["skewed"]

            wait_until(said, "readyz says that the clocks are apart")
            pay_everywhere(api, payers, offset=7)
            found = admin(cluster, "doctor", status=(0, 1))["findings"]
            clock_findings = [f["what"] for f in found if f["check"] == "clocks"]
            assert any("api-1" in what and f"{abs(seconds)}." in what for what in clock_findings), found
        wait_until(lambda: cluster.ready(cluster.urls[0]), "it is ready again")
    nothing_is_open(cluster)


def test_g11_a_move_waits_by_the_services_own_clock(cluster: DevCluster, clocks: Clocks) -> None:
    """The payers' node is 3 s ahead. A transfer that waits for a moving partition must not seem 3 s older for that."""
    clocks.step(3, NODES[0])
    with cluster_directory(cluster) as directory:
        partition = next(
            p for p, entry in enumerate(directory.partition_map().partitions) if entry.shard == "s2"
        )
    paying = Paying(cluster)
    with paying.running():
        for target in ("s1", "s2"):
            admin(cluster, "--yes", "move", str(partition), target)
    paying.check(failed_max=0)


def test_g4_g9_all_clocks_step_forth_and_back(cluster: DevCluster, clocks: Clocks, tmp_path: Path) -> None:
    """After the step back recorded time stands still for 6 minutes; everything else goes on.

    While the clocks are ahead, a service dies with transfers half done. Another one ends them after the step back.
    """
    with WalletApi(cluster.urls[1], PARTITIONS) as api:
        senders = [api.account(partition, "100.00") for partition in SENDERS_AT]
        payers = [api.account(partition, "1.00") for partition in range(PARTITIONS)]
        receivers = [api.account(partition) for partition in (2, 8, 12, 15)]
        batch = [transfer_body(sender, to, "1.00", new_id()) for sender in senders for to in receivers]
        clocks.step(360)
        pay_everywhere(api, payers)
        assert cluster.process is not None
        strand(cluster, PARTITIONS, SENDERS_AT, [("/v1/transfers/batch", {"transfers": batch})])
        try:
            with stopped(cluster.living("journal")):  # so that no transfer ends meanwhile
                clocks.step(0)
                shown = admin(cluster, "pending", "--older-than", "60")["entries"]
                assert {entry["partition"] for entry in shown} == set(SENDERS_AT)
                findings = admin(cluster, "doctor", status=(1,))["findings"]
                (ageless,) = (f for f in findings if "are of unknown age: the clock" in f["what"])
                status, said = run_advice(ageless, tmp_path, cluster)
                assert (status, senders[0] in said) == (0, True), said
            pay_everywhere(api, payers, offset=3)
            nothing_is_open(cluster)
        finally:
            cluster.process.send_signal(18)  # SIGCONT
        pay_everywhere(api, payers, offset=9)
        for body in batch:
            reply = api.post("/v1/wallet/balance_transfer", body)
            check_success(reply, body["transaction_id"], replayed=True)
        assert {api.balance(receiver) for receiver in receivers} == {f"{len(senders)}.00"}
        assert api.balance("@transit") == "0.00"
    cluster.wait_ready()


def test_g4_a_step_forgets_nothing(cluster: DevCluster, clocks: Clocks) -> None:
    """Three steps forward within seconds, each longer than the retention, and one back: each id keeps its answer."""
    with WalletApi(cluster.urls[0], PARTITIONS) as api:
        payers = [api.account(partition, "5.00") for partition in range(PARTITIONS)]
        bodies = [
            transfer_body(payer, payers[(number + offset) % PARTITIONS], "0.10", new_id())
            for number, payer in enumerate(payers)
            for offset in (1, 6)
        ]

        def answers_again(*, replayed: bool) -> None:
            for body in bodies:
                reply = api.post("/v1/wallet/balance_transfer", body)
                check_success(reply, body["transaction_id"], replayed=replayed)

        answers_again(replayed=False)
        balances = [api.balance(payer) for payer in payers]
        for hours in (25, 50, 75, 0):
            clocks.step(hours * HOUR_S)
            for _ in range(2):  # one write opened a window, and the second write after it forgot the window
                for payer in payers:
                    api.paid("@bank", payer, "0.01")
                    api.paid(payer, "@bank", "0.01")
            answers_again(replayed=True)
            assert [api.balance(payer) for payer in payers] == balances
    nothing_is_open(cluster)


def test_a_step_under_traffic_fails_no_request(cluster: DevCluster, clocks: Clocks) -> None:
    """One clock at a time steps, a node's or a service's, forward or back, by more than an operation may be old."""
    paying = Paying(cluster)
    with paying.running() as books:
        for seconds, name in (
            (400, "s1-1"),
            (-900, "api-2"),
            (30 * HOUR_S, "s2-1"),
            (-HOUR_S, "s1-1"),
            (0, ""),
        ):
            before = books.answers["success"]
            clocks.step(seconds, *filter(None, (name,)))
            wait_until(lambda before=before: books.answers["success"] > before + 200, "payments go on")
    paying.check(failed_max=0)
    nothing_is_open(cluster)


def test_holds_expire_by_recorded_time(cluster: DevCluster, clocks: Clocks) -> None:
    """A step forward expires short holds. They are released at once, even when the clocks are right again before
    anyone looks, and cannot be captured. Holds that have not expired can. Recorded time then stands still, so no
    further hold expires.
    """
    with WalletApi(cluster.urls[0], PARTITIONS) as api:
        payers = [api.account(partition, "10.00") for partition in range(PARTITIONS)]
        near = [api.account(partition) for partition in range(PARTITIONS)]
        receiver = api.account(3)

        def hold(payer: str, seconds: int) -> str:
            named = {"account_id": payer, "transaction_id": new_id()}
            body = named | {"amount": "2.00", "currency": "USD", "expires_in_s": seconds}
            reply = api.post("/v1/holds", body)
            assert reply.status == 201, reply
            return named["transaction_id"]

        def capture(payer: str, id_: str) -> tuple[int, str | None]:
            body = {"account_id": payer, "transaction_id": new_id(), "to_account": receiver, "final": False}
            reply = api.post(f"/v1/holds/{id_}/capture", body | {"amount": "0.50"})
            return reply.status, reply.json().get("code")

        def status(payer: str, id_: str) -> str:
            return str(api.get(f"/v1/holds/{id_}?account_id={payer}").json()["status"])

        def available(payer: str) -> str:
            return str(api.get(f"/v1/accounts/{payer}").json()["balances"][0]["available"])

        short = [hold(payer, HOUR_S) for payer in payers]
        days = [hold(payer, 200 * HOUR_S) for payer in payers]
        with clocks.stepped(100 * HOUR_S):  # further than in any earlier test
            for payer, to in zip(payers, near, strict=True):
                api.paid(payer, to, "0.01")
        for payer, id_ in zip(payers, short, strict=True):
            wait_until(lambda p=payer, h=id_: status(p, h) == "expired", "it is released", EXPIRED_S_MAX)
            assert available(payer) == "7.99"
            assert capture(payer, id_) == (422, "hold_expired")
        later = [hold(payer, 1) for payer in payers]
        for payer, *ids in zip(payers, days, later, strict=True):
            assert [capture(payer, id_) for id_ in ids] == [(200, None)] * 2
        assert api.balance(receiver) == f"{PARTITIONS:.2f}"
        for payer, *ids in zip(payers, days, later, strict=True):
            for id_ in ids:
                assert api.post(f"/v1/holds/{id_}/void", {"account_id": payer}).status == 200
            assert available(payer) == "8.99"
    nothing_is_open(cluster)
