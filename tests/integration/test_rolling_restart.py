"""API processes are restarted one after the other under load, and callers without retries see no failure.

The load balancer does what any does: it asks `/readyz` ten times a second, and sends requests to processes that are
ready, over connections that are kept until an answer says that they close.
"""

import http.client
import json
import random
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.dev_process import DevCluster
from support.service_process import Service
from support.wallet_api import WalletApi, new_id, transfer_body

from wallet_engine.dev.probing import probe

CALLERS = 6
STOP_S_MAX = 20.0
ENDS = 4


class Balancer:
    """Knows which services are ready."""

    def __init__(self, services: list[Service]) -> None:
        self.services = services
        self.ready: list[Service] = list(services)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Balancer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            self.ready = [service for service in self.services if probe(service.address)[0]]


class Caller(threading.Thread):
    """Pays again and again, without retries."""

    def __init__(self, balancer: Balancer, payer: str, receiver: str) -> None:
        super().__init__()
        self._balancer = balancer
        self._body = lambda: json.dumps(transfer_body(payer, receiver, "0.01", new_id())).encode()
        self._connections: dict[str, http.client.HTTPConnection] = {}
        self.stop = threading.Event()
        self.paid = 0
        self.failures: list[str] = []

    def run(self) -> None:
        while not self.stop.is_set():
            address = random.choice(self._balancer.ready).address
            connection = self._connections.setdefault(
                address, http.client.HTTPConnection(address, timeout=20)
            )
            if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
                connection.close()  # closed while idle: any pool checks before it sends
            try:
                connection.request("POST", "/v1/wallet/balance_transfer", self._body())
                answer = connection.getresponse()
                said = answer.read()
                if answer.status == 200:
                    self.paid += 1
                else:
                    self.failures.append(f"{answer.status} {said!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{address}: {error!r}")
                connection.close()
        for connection in self._connections.values():
            connection.close()


@pytest.fixture
def services(api_cluster: DevCluster, tmp_path: Path) -> Iterator[list[Service]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Service(api_cluster, tmp_path / f"rolled-{n}.log")) for n in (1, 2)]


def test_a_rolling_restart_fails_no_request(services: list[Service], api: WalletApi) -> None:
    payer, receiver = api.account(0, "100.00"), api.account(9)
    with Balancer(services) as balancer:
        callers = [Caller(balancer, payer, receiver) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        try:
            for service in services:
                service.process.terminate()
                assert service.process.wait(STOP_S_MAX) == 0
                service.start()
                deadline = time.monotonic() + STOP_S_MAX
                while service not in balancer.ready:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
        finally:
            for caller in callers:
                caller.stop.set()
            for caller in callers:
                caller.join()
    assert [caller.failures for caller in callers] == [[]] * CALLERS
    assert all(caller.paid > 10 for caller in callers)
    paid = sum(caller.paid for caller in callers)
    assert api.balance(receiver) == f"{paid / 100:.2f}"


def test_what_was_sent_while_a_process_stood_still_before_its_end_is_answered(
    api_cluster: DevCluster, api: WalletApi, tmp_path: Path
) -> None:
    """A process that a busy machine paused before it closed idle connections used to close those with requests too."""
    payer, receiver = api.account(0, "100.00"), api.account(9)
    body = lambda: json.dumps(transfer_body(payer, receiver, "0.01", new_id())).encode()  # noqa: E731
    asked = 0
    for _ in range(ENDS):
        with (
            Service(api_cluster, tmp_path / "stopped.log", "--leave-s", "0.1") as service,
            ExitStack() as stack,
        ):
            kept = [http.client.HTTPConnection(service.address, timeout=20) for _ in range(CALLERS)]
            for connection in kept:
                stack.callback(connection.close)
                connection.request("POST", "/v1/wallet/balance_transfer", body())
                assert connection.getresponse().read()
            service.process.terminate()
            time.sleep(random.uniform(0.1, 0.2))  # the listener is closed, the connections are about to be
            service.process.send_signal(signal.SIGSTOP)
            still = [each for each in kept if not select.select([each.sock], [], [], 0)[0]]
            for connection in still:
                connection.request("POST", "/v1/wallet/balance_transfer", body())
            time.sleep(0.1)
            service.process.send_signal(signal.SIGCONT)
            for connection in still:
                answer = connection.getresponse()
                assert (answer.status, answer.getheader("connection")) == (200, "close")
                answer.read()
            assert service.process.wait(STOP_S_MAX) == 0
            asked += len(still)
    assert asked >= CALLERS
    assert api.balance(receiver) == f"{(asked + ENDS * CALLERS) / 100:.2f}"
