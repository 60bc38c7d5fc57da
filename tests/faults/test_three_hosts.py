"""Three hosts with everything on: keys and HTTPS, certificates between our processes, Redis with users and TLS,
ZooKeeper by TLS with users. Every command is taken from `cluster_config/DEPLOY.md`. One host dies and returns.
"""

import http.client
import json
import os
import shlex
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.hosts import NETWORK, Host
from support.machines import Machines, blocks_of, machines
from support.prometheus import prometheus
from support.replicated import wait_until
from support.rogue import Rogue
from support.wallet_api import new_id, transfer_body

from wallet_engine.routing.slots import partition_of

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

COUNT, PARTITIONS = 3, 64
START_S_MAX = 120.0
ROOT = Path(__file__).resolve().parents[2]
SECTION = "Three hosts, command by command"
ZOOKEEPER, REDIS, REPLICA, JOURNAL, API = 2281, 7001, 7002, 7400, 8443


class Deployment:
    """What an SRE's machine has after the steps of the document, and a way to each host."""

    def __init__(self, found: Machines) -> None:
        self.machines = found
        self.hosts = [machine.host for machine in found.hosts if machine.host is not None]
        self.key = (found.here.home / "ops.key").read_text().strip()

    def admin(self, *words: str) -> dict[str, Any]:
        text = (
            f". ./sre.env; export WALLET_KEY=$(cat ops.key); wallet-admin {shlex.join(words)} --json || true"
        )
        document: dict[str, Any] = json.loads(self.machines.here.run(text, {}))
        assert "error" not in document, document
        return document

    def ask(self, host: Host, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status 0 when there is no answer."""
        context = ssl.create_default_context(cafile=str(self.machines.here.home / "ca" / "ca.pem"))
        connection = http.client.HTTPSConnection(host.address, API, timeout=10, context=context)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, ValueError, http.client.HTTPException):
            return 0, None
        finally:
            connection.close()

    def pay(self, host: Host, account: str) -> int:
        return self.ask(
            host, "POST", "/v1/wallet/balance_transfer", transfer_body("@bank", account, "1.00", new_id())
        )[0]

    def pays(self, host: Host, accounts: list[str]) -> bool:
        return all(self.pay(host, account) == 200 for account in accounts)

    def said(self) -> str:
        return self.machines.said()


def fetch(folder: Path) -> Path:
    """The wheels that the hosts will install, for their Python: the hosts have no network."""
    subprocess.run(("/usr/bin/python3", "-m", "venv", str(folder / "venv")), check=True)
    locked = ("--requirement", str(ROOT / "requirements.lock"), "--dest", str(folder / "wheels"), "--quiet")
    pip = (str(folder / "venv" / "bin" / "pip"), "download", "--only-binary", ":all:", *locked)
    subprocess.run(pip, check=True)
    return folder / "wheels"


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    if os.geteuid():
        pytest.skip("network namespaces are for root")
    wheels = fetch(tmp_path)
    blocks = blocks_of((ROOT / "cluster_config" / "DEPLOY.md").read_text(), SECTION)
    with machines(COUNT, tmp_path, ROOT, wheels) as found:
        try:
            for spent_s, began in found.walk(blocks):
                print(f"{spent_s:5.1f} s  {began}")
        except (AssertionError, subprocess.TimeoutExpired):
            print(found.said())
            raise
        made = Deployment(found)

        def serves() -> bool:
            answers = [made.ask(host, "GET", "/readyz") for host in made.hosts]
            return all(status == 200 and found["status"] == "ready" for status, found in answers)

        wait_until(serves, "every API process serves", START_S_MAX, made.said)
        yield made


def test_g13_three_hosts_with_everything_on_outlive_one_of_them(deployment: Deployment) -> None:
    first, second, third = deployment.hosts
    accounts = [
        next(name for n in range(10_000) if partition_of(name := f"a-{n}", PARTITIONS) == partition)
        for partition in range(PARTITIONS)
    ]
    for account in accounts:
        status, _ = deployment.ask(first, "POST", "/v1/accounts", {"account_id": account, "currency": "USD"})
        assert status == 201
    for host in deployment.hosts:
        assert deployment.pays(host, accounts)
    nobody_is_let_in(deployment)
    prometheus_sees_all(deployment)
    check(deployment)

    fallen = deployment.machines.hosts[2]
    fallen.fall()
    fell_s = time.monotonic()
    for host in (first, second):
        wait_until(
            lambda host=host: deployment.pays(host, accounts), "two hosts pay", START_S_MAX, deployment.said
        )
    print(f"paid everywhere {time.monotonic() - fell_s:.1f} s after a host died")
    fallen.rise()
    wait_until(lambda: deployment.pays(third, accounts), "the third pays again", START_S_MAX, deployment.said)
    # Its primary is on another host now; doctor warns of that until it is back.
    wait_until(lambda: primaries_are_spread(deployment), "primaries are spread again", START_S_MAX)
    check(deployment)


def primaries_are_spread(deployment: Deployment) -> bool:
    """A replica that does not follow yet cannot take over: the caller retries."""
    with suppress(AssertionError):
        deployment.admin("rebalance", "--primaries", "--yes")
        return True
    return False


def check(deployment: Deployment) -> None:
    wait_until(
        lambda: deployment.admin("verify", "--journal", _journal(deployment))["ok"],
        "it verifies",
        START_S_MAX,
    )
    found: list[dict[str, Any]] = []

    def well() -> bool:
        findings = deployment.admin("doctor")["findings"]
        found[:] = [one for one in findings if one["severity"] in ("error", "warning")]
        return not found

    wait_until(well, "doctor finds nothing", START_S_MAX, lambda: found)
    assert deployment.admin("journal", "verify")["same"]


def _journal(deployment: Deployment) -> str:
    return str(deployment.machines.hosts[0].root / "var/lib/wallet/j1")


def prometheus_sees_all(deployment: Deployment) -> None:
    """With the folder that the document has made."""
    folder = deployment.machines.here.home / "prometheus"
    with prometheus(folder / "prometheus.yml", folder) as running:
        wanted = [("wallet-api", "up")] * COUNT + [("wallet-journal", "up")] * COUNT
        wait_until(lambda: sorted(running.health()) == wanted, "all are scraped", START_S_MAX, running.health)


def nobody_is_let_in(deployment: Deployment) -> None:
    """No port answers in plain text; all but the API's need a certificate, and the API refuses an unknown key."""
    host = deployment.hosts[0]
    for port in (ZOOKEEPER, REDIS, REPLICA, JOURNAL, API):
        for said in (b"PING\r\n", b"srvr\n", b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"):
            with socket.create_connection((host.address, port), timeout=10) as link:
                link.sendall(said)
                answer = b""
                with suppress(OSError):
                    answer = link.recv(1000)
                assert not any(word in answer for word in (b"PONG", b"Mode:", b"HTTP/1.1 200")), (
                    port,
                    answer,
                )
    for port in (ZOOKEEPER, REDIS, JOURNAL):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with Rogue(f"{host.address}:{port}", context) as rogue:
            assert rogue.send(b"PING\r\n" * 20).hear() is None, port
    assert host.address.startswith(NETWORK)
    key, deployment.key = deployment.key, "wk_aaaaaaaa_" + "0" * 64
    assert deployment.pay(host, "a-0") == 401
    deployment.key = key
