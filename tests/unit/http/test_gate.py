"""Every request passes the gate: with a gate that refuses all requests, no request of any form does anything."""

import asyncio
import json
import time
from collections.abc import Iterator
from itertools import product
from typing import Any, NoReturn

import pytest
import uvloop
from unit.http.test_direct import ANSWER_S_MAX, Client, request_bytes
from unit.http.test_malformed import BATCH, GOOD, SINGLE, TXID

from wallet_engine.http.application import create_app
from wallet_engine.http.endpoints import ENDPOINTS
from wallet_engine.http.gate import Entrance, Gate, Peer, Visit
from wallet_engine.http.problems import Refused
from wallet_engine.http.request_ids import Asked
from wallet_engine.http.server import serve_http
from wallet_engine.service.shares import LOOK_S
from wallet_engine.telemetry.metrics import Metrics

BODY = json.dumps(GOOD).encode()
BODIES = {SINGLE: BODY, BATCH: json.dumps({"transfers": [GOOD]}).encode()}
NO_ENDPOINTS = (
    "/",
    "/v1",
    "/v1/accounts/",
    "//v1/accounts",
    "/v1/transfers/batch/x",
    "/v1/wallet/balance_transfer/",
    "*",
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE")
PEER = Peer("127.0.0.1")
ASKED = 1
WORD = "only the gate says so"


class RefusingGate(Gate):
    """A gate that refuses and counts all requests."""

    turned_away = 0

    def enter(self, entrance: Entrance, authorization: bytes | None, peer: Peer, asked: Asked) -> Visit:
        self.turned_away += 1
        raise Refused("overloaded", WORD)


class Untouchable:
    """A wallet on which every call fails the test."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> NoReturn:
        self.asked.append(name)
        raise AssertionError(f"{name} was asked of the wallet")


def path_of(template: str) -> str:
    return template.replace("{account_id}", "alice").replace("{transaction_id}", TXID)


def shapes(method: str, path: str) -> Iterator[list[bytes]]:
    """A request in all its forms. Each form is a list of the parts that are sent."""
    body = b"" if method in ("GET", "HEAD") else BODIES.get(path, BODY)
    begin = f"{method} {path}".encode()
    whole = request_bytes(body, path=path).replace(f"POST {path}".encode(), begin, 1)
    yield [whole]
    yield [whole[:9], whole[9:]]
    yield [whole[:-1], whole[-1:]] if body else [whole[:-3], whole[-3:]]
    for header in (
        f"idempotency-key: {TXID}",
        "connection: close",
        "expect: 100-continue",
        "x: y",
        "authorization: Bearer x",
    ):
        yield [whole.replace(b"\r\n\r\n", f"\r\n{header}\r\n\r\n".encode(), 1)]
    yield [whole.replace(path.encode(), path.encode() + b"?currency=USD&from_account=alice", 1)]
    yield [whole.replace(b"HTTP/1.1", b"HTTP/1.0", 1)]
    if body:
        head = whole.partition(b"\r\n\r\n")[0].replace(
            b"content-length: %d" % len(body), b"transfer-encoding: chunked"
        )
        yield [head + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)]


async def ask(port: int, parts: list[bytes], *, head_only: bool) -> bytes:
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    try:
        for number, part in enumerate(parts):
            if number:
                await asyncio.sleep(0.002)
            client.writer.write(part)
        if head_only:
            return await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), ANSWER_S_MAX)
        answer = await client.answer()
        return await client.answer() if answer.startswith(b"HTTP/1.1 100 ") else answer
    finally:
        client.writer.transport.abort()


def test_nothing_gets_past_a_gate_that_refuses() -> None:
    async def scenario() -> None:
        wallet: Any = Untouchable()
        gate = RefusingGate(Metrics())
        stop, url = asyncio.Event(), asyncio.get_running_loop().create_future()
        app = create_app(wallet, gate=gate)
        serving = asyncio.create_task(serve_http(app, "127.0.0.1", 0, stop=stop, on_listening=url.set_result))
        port = int((await asyncio.wait_for(url, ANSWER_S_MAX)).rpartition(":")[2])
        paths = [*(path_of(endpoint.template) for endpoint in ENDPOINTS), *NO_ENDPOINTS]
        served = {(endpoint.method, path_of(endpoint.template)) for endpoint in ENDPOINTS}
        asked = 0
        try:
            for method, path in product(METHODS, dict.fromkeys(paths)):
                for number, parts in enumerate(shapes(method, path)):
                    if number and (method, path) not in served:
                        break
                    answer = await ask(port, parts, head_only=method == "HEAD")
                    asked += 1
                    assert answer.startswith(b"HTTP/1.1 503 "), (parts, answer)
                    assert method != "HEAD" or b"\r\nx-request-id: " in answer, (parts, answer)
                    assert method == "HEAD" or WORD.encode() in answer, (parts, answer)
                    assert gate.turned_away == asked, parts
        finally:
            stop.set()
            await asyncio.wait_for(serving, ANSWER_S_MAX)
        assert asked > 250
        assert wallet.asked == []

    uvloop.run(scenario())


@pytest.mark.parametrize("status", [200, 503])
def test_a_visit_is_counted_from_its_begin_to_its_end(status: int) -> None:
    metrics = Metrics()
    gate = Gate(metrics, in_flight_max=1)
    bounded = next(endpoint for endpoint in ENDPOINTS if endpoint.bounded)
    probe = next(endpoint for endpoint in ENDPOINTS if not endpoint.bounded)
    visit = gate.enter(bounded, None, PEER, ASKED)
    assert (gate.in_flight, gate.metrics.in_flight) == (1, 1)
    with pytest.raises(Refused, match="in flight"):
        gate.enter(bounded, None, PEER, ASKED)
    watching = gate.enter(probe, None, PEER, ASKED)
    assert (gate.in_flight, gate.metrics.in_flight) == (1, 2)
    watching.leave(200)
    visit.leave(status)
    assert (gate.in_flight, gate.metrics.in_flight) == (0, 0)
    gate.enter(bounded, None, PEER, ASKED).leave(200)
    labels = {"route": bounded.template, "status": "503"}
    refused = metrics.registry.get_sample_value("wallet_http_requests_total", labels)
    assert refused == 1 + (status == 503)


def test_g10_one_caller_has_no_more_than_half_of_the_room_while_another_is_there() -> None:
    gate = Gate(Metrics(), in_flight_max=10)
    small = next(endpoint for endpoint in ENDPOINTS if endpoint.bounded and endpoint.small)
    loud, quiet = gate.peer("192.0.2.1"), gate.peer("192.0.2.2")
    visits = [gate.enter(small, None, loud, ASKED) for _ in range(8)]  # there is no other caller
    gate.enter(small, None, quiet, ASKED).leave(200)
    time.sleep(2 * LOOK_S)
    with pytest.raises(Refused, match="this caller alone") as refused:
        gate.enter(small, None, loud, ASKED)
    assert (refused.value.code, gate.in_flight) == ("rate_limited", 8)
    gate.enter(small, None, quiet, ASKED).leave(200)
    for visit in visits[:4]:
        visit.leave(200)
    gate.enter(small, None, loud, ASKED).leave(200)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("", True),  # a server that is not ours
        ("10.0.0.1", False),
        ("::1a2b", False),
        ("::1:2", False),
        ("::ffff:10.0.0.1", False),
        ("1270::1", False),
    ],
)
def test_only_this_machine_is_local(address: str, local: bool) -> None:
    assert Peer(address).is_local == local
