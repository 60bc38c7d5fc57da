"""`docker-compose.yml`, really started: it pays, a container is killed, `verify` is ok, it goes down and up again."""

import http.client
import json
import os
import re
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.containers import IMAGES, Docker, docker, missing
from support.replicated import wait_until
from support.wallet_api import new_id, transfer_body

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1500)]

ROOT = Path(__file__).resolve().parents[2]
PORTS = (8081, 8082)
SERVE_S_MAX = 120.0
#: Reads the metrics at the journal's --metrics-port from another container, with a certificate.
SCRAPE = """
import ssl, urllib.request
context = ssl.create_default_context(cafile="/secrets/ca.pem")
context.load_cert_chain("/secrets/own.pem", "/secrets/own.key")
print(urllib.request.urlopen("https://journal:9101/metrics", context=context).read().decode())
"""


class Composed:
    """What a user of the compose file has: its commands, and the API by HTTPS."""

    def __init__(self, engine: Docker, folder: Path) -> None:
        self.engine = engine
        self.ca = folder / "ca.pem"
        self.key = ""

    def compose(self, *words: str) -> str:
        return self.engine.run("docker-compose", "--project-name", "wallet-test", *words, cwd=ROOT)

    def admin(self, *words: str) -> str:
        try:
            return self.compose("run", "--rm", "-T", "admin", *words)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def log(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "20")

    def ask(self, port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status 0 when there is no answer."""
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, ValueError, http.client.HTTPException):
            return 0, None
        finally:
            connection.close()

    def ready(self) -> bool:
        answers = [self.ask(port, "GET", "/readyz") for port in PORTS]
        return all(status == 200 and found["status"] == "ready" for status, found in answers)

    def pays(self, accounts: list[str]) -> bool:
        path, port = "/v1/wallet/balance_transfer", PORTS[1]
        return all(
            self.ask(port, "POST", path, transfer_body("@bank", account, "1.00", new_id()))[0] == 200
            for account in accounts
        )

    def balances(self, accounts: list[str]) -> list[str]:
        return [
            self.ask(PORTS[0], "GET", f"/v1/accounts/{account}/balance?currency=USD")[1]["balance"]
            for account in accounts
        ]

    def pid_of(self, service: str) -> int:
        (container,) = self.compose("ps", "-q", service).split()
        return int(self.engine.run("docker", "inspect", "--format", "{{.State.Pid}}", container))


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Composed]:
    why = missing()
    if why:
        pytest.skip(why)
    with docker(tmp_path) as engine:
        began_s = time.monotonic()
        for name, stand_in in IMAGES.items():
            engine.make(name, stand_in)
        print(f"images made in {time.monotonic() - began_s:.0f} s")
        dockerfile = "cluster_config/Dockerfile"
        engine.run(
            *f"docker build --network host --file {dockerfile} --tag wallet-engine .".split(), cwd=ROOT
        )
        found = Composed(engine, tmp_path)
        try:
            yield found
        finally:
            found.compose("down", "--volumes", "--timeout", "5")


def test_images_are_those_that_the_files_name() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    named = {service["image"] for service in compose["services"].values()} - {"wallet-engine"}
    base = re.findall(r"^FROM (\S+)", (ROOT / "cluster_config" / "Dockerfile").read_text(), re.MULTILINE)
    assert {*named, *base} == set(IMAGES)


def test_it_pays_outlives_a_container_and_comes_back(composed: Composed) -> None:
    began_s = time.monotonic()
    composed.compose("up", "--detach")
    composed.key = json.loads(
        composed.admin("wallet-admin", "key", "create", "ops", "--role", "admin", "--yes", "--json")
    )["key"]
    composed.ca.write_text(composed.admin("cat", "/secrets/ca.pem"))
    wait_until(composed.ready, "both API processes serve", SERVE_S_MAX, composed.log)
    print(f"ready {time.monotonic() - began_s:.0f} s after `up`")
    accounts = [f"a-{number}" for number in range(12)]
    for account in accounts:
        body = {"account_id": account, "currency": "USD"}
        assert composed.ask(PORTS[0], "POST", "/v1/accounts", body)[0] == 201
    assert composed.pays(accounts)
    nobody_else_is_let_in(composed)
    assert "wallet_journal_entries" in composed.admin("python3", "-c", SCRAPE)
    composed.admin("wallet-admin", "doctor")

    os.kill(composed.pid_of("redis-1"), signal.SIGKILL)
    fell_s = time.monotonic()
    wait_until(lambda: composed.pays(accounts), "payments go on", SERVE_S_MAX, composed.log)
    print(f"paid everywhere {time.monotonic() - fell_s:.1f} s after a primary was killed")
    wait_until(composed.ready, "all is well again", SERVE_S_MAX, composed.log)
    verify = ("wallet-admin", "verify", "--journal", "/var/lib/wallet/journal")
    composed.admin(*verify)

    before = composed.balances(accounts)
    composed.compose("down")
    began_s = time.monotonic()
    composed.compose("up", "--detach")
    wait_until(composed.ready, "it serves again", SERVE_S_MAX, composed.log)
    print(f"ready {time.monotonic() - began_s:.0f} s after `down` and `up`")
    assert composed.balances(accounts) == before
    assert composed.pays(accounts)
    composed.admin(*verify)


def nobody_else_is_let_in(composed: Composed) -> None:
    """An unknown key gets 401. The API's ports are bound to loopback; Redis and ZooKeeper publish no port."""
    key, composed.key = composed.key, "wk_aaaaaaaa_" + "0" * 64
    assert composed.ask(PORTS[0], "GET", "/v1/accounts/a-0")[0] == 401
    composed.key = key
    published = composed.engine.run("docker", "ps", "--format", "{{.Ports}}").split("\n")
    assert {line for line in published if "->" in line} == {f"127.0.0.1:{port}->8080/tcp" for port in PORTS}
