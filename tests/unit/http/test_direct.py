"""The short way gives the same answers as the general way, and never handles two requests at once."""

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from unit.http.test_malformed import BATCH, GOOD, MALFORMED_BODIES, MALFORMED_TRANSFERS, SINGLE, TXID, changed
from unit.http.wallet_double import WalletDouble

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.limits import BODY_BYTES_MAX
from wallet_engine.http import heads
from wallet_engine.http.application import Application, create_app
from wallet_engine.http.examples import EXAMPLES
from wallet_engine.http.heads import Head, Heads, read_head
from wallet_engine.http.protocol import WalletHttpProtocol
from wallet_engine.http.server import KEEP_ALIVE_SECONDS, serve_http
from wallet_engine.service.api import TransferAnswer, TransferCommand
from wallet_engine.telemetry.metrics import Metrics

GOOD_BODY = json.dumps(GOOD).encode()
ANSWER_S_MAX = 20.0


def request_bytes(body: bytes, *headers: str, path: str = SINGLE) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: wallet", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> bytes:
        """The next whole answer, without its date and its id."""
        async with asyncio.timeout(ANSWER_S_MAX):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            body = await self.reader.readexactly(length)
        return re.sub(rb"(?:date|x-request-id): [^\r]*\r\n", b"", head) + body

    async def ask(self, data: bytes) -> bytes:
        self.writer.write(data)
        return await self.answer()

    async def ask_in_pieces(self, data: bytes) -> bytes:
        """Send a request in pieces: then it takes the general way."""
        self.writer.write(data[:10])
        await asyncio.sleep(0.002)
        return await self.ask(data[10:])


class Service:
    """A server, its application, and the number of requests that took the short way."""

    def __init__(self, app: Application, port: int, stop: asyncio.Event, task: asyncio.Task[None]) -> None:
        self.app, self.port, self.stop, self.task = app, port, stop, task
        self.direct = 0
        self.clients: list[Client] = []
        begin = app.direct.begin

        def counted(*arguments: object) -> None:
            self.direct += 1
            begin(*arguments)  # type: ignore[arg-type]

        app.direct.begin = counted  # type: ignore[method-assign]

    async def connect(self) -> Client:
        self.clients.append(Client(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.clients[-1]


@asynccontextmanager
async def service(wallet: WalletDouble, **settings: Any) -> AsyncIterator[Service]:
    """`settings` go to `serve_http`."""
    app, stop = create_app(wallet, metrics=Metrics()), asyncio.Event()
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = serve_http(app, "127.0.0.1", 0, stop=stop, on_listening=url.set_result, **settings)
    task = asyncio.create_task(serving)
    try:
        address = await asyncio.wait_for(url, ANSWER_S_MAX)
        running = Service(app, int(address.rpartition(":")[2]), stop, task)
        yield running
    finally:
        for client in running.clients:
            client.writer.transport.abort()
        stop.set()
        await asyncio.wait_for(task, ANSWER_S_MAX)


class SlowWallet(WalletDouble):
    """A wallet whose transfers are decided when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: asyncio.Queue[Callable[[TransferAnswer | Outage], None]] = asyncio.Queue()

    def begin_transfer(
        self, command: TransferCommand, answer: Callable[[TransferAnswer | Outage], None]
    ) -> None:
        self.begun.put_nowait(answer)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[WalletHttpProtocol]:
    """The protocols of all connections, in their order."""
    protocols: list[WalletHttpProtocol] = []
    connection_made = WalletHttpProtocol.connection_made

    def noted(self: WalletHttpProtocol, transport: asyncio.Transport) -> None:
        protocols.append(self)
        connection_made(self, transport)

    monkeypatch.setattr(WalletHttpProtocol, "connection_made", noted)
    return protocols


PAID = TransferAnswer("+", False)
REQUESTS = [
    *[request_bytes(json.dumps(changed(changes)).encode()) for changes, _ in MALFORMED_TRANSFERS],
    *map(request_bytes, MALFORMED_BODIES),
    request_bytes(GOOD_BODY),
    request_bytes(GOOD_BODY, f"idempotency-key: {TXID}"),
    request_bytes(GOOD_BODY, "Idempotency-Key: other"),
    request_bytes(json.dumps(changed({"transaction_id": TXID.upper()})).encode(), "accept: */*"),
]


def test_both_ways_give_the_same_answers() -> None:
    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            client = await running.connect()
            for request in REQUESTS:
                short, general = await client.ask(request), await client.ask_in_pieces(request)
                assert short == general, request
            assert running.direct == sum(len(request) < 2**16 for request in REQUESTS) > 100
            for answer in (
                *(TransferAnswer(outcome, replayed) for outcome in "+!acfil?" for replayed in (True, False)),
                *(Outage(code, "why", retry_after_s=3) for code in ("overloaded", "outcome_unknown", "new")),
                RuntimeError("a secret"),
            ):
                wallet.answers["transfer"] = answer
                request = request_bytes(GOOD_BODY)
                assert await client.ask(request) == await client.ask_in_pieces(request), answer

    uvloop.run(scenario())


POSTED = [e for e in EXAMPLES if e.method == "POST" and "{" not in e.template and e.template != SINGLE]


def test_all_that_is_posted_whole_goes_the_short_way_with_the_same_answers() -> None:
    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            client = await running.connect()
            asked = 0
            for path in sorted({e.template for e in POSTED}):
                good = [json.dumps(e.body).encode() for e in POSTED if e.template == path]
                for body in (*good, b"", b"{", b"[]", b"{}", good[0][:-1] + b',"no_such_field":1}'):
                    for headers in ((), ("content-type: text/plain",), ("content-type: application/json",)):
                        request = request_bytes(body, *headers, path=path)
                        assert await client.ask(request) == await client.ask_in_pieces(request), request
                        asked += headers != ("content-type: text/plain",)  # a type that is not accepted
            assert running.direct == asked > 50
            assert {name for name, _ in wallet.calls} >= {"transfer_many", "transfer_group", "place_hold"}
            for name in ("transfer_many", "place_hold", "open_account"):
                for failure in (Outage("overloaded", "why", retry_after_s=3), RuntimeError("a secret")):
                    wallet.answers[name] = failure
                    path = {"transfer_many": BATCH, "place_hold": "/v1/holds"}.get(name, "/v1/accounts")
                    body = next(json.dumps(e.body).encode() for e in POSTED if e.template == path)
                    request = request_bytes(body, path=path)
                    assert await client.ask(request) == await client.ask_in_pieces(request), name
            gate = running.app.gate
            assert (gate.in_flight, gate.metrics.in_flight) == (0, 0)

    uvloop.run(scenario())


def test_every_request_is_measured_and_counted_as_in_flight() -> None:
    async def scenario() -> None:
        wallet = SlowWallet()
        async with service(wallet) as running:
            gate, client = running.app.gate, await running.connect()
            client.writer.write(request_bytes(GOOD_BODY))
            decide = await wallet.begun.get()
            assert (gate.in_flight, gate.metrics.in_flight) == (1, 1)
            gate.in_flight_max = 1
            other = await running.connect()
            for ask in (other.ask, other.ask_in_pieces):
                refused = await ask(request_bytes(GOOD_BODY))
                assert b'"code":"overloaded"' in refused
                assert f'"transaction_id":"{GOOD["transaction_id"]}"'.encode() in refused
            decide(TransferAnswer("i", False))
            assert b" 422 " in await client.answer()
            assert (gate.in_flight, gate.metrics.in_flight) == (0, 0)
            other.writer.write(b"GET /metrics HTTP/1.1\r\nhost: w\r\n\r\n")
            text = (await other.answer()).decode()
            assert f'wallet_http_requests_total{{route="{SINGLE}",status="422"}} 1.0' in text
            assert f'wallet_http_requests_total{{route="{SINGLE}",status="503"}} 2.0' in text
            assert f'wallet_http_request_duration_seconds_count{{route="{SINGLE}"}} 3.0' in text
            assert 'wallet_transfers_total{outcome="insufficient_funds"} 1.0' in text

    uvloop.run(scenario())


def test_what_a_client_sends_before_its_answer_waits_for_it() -> None:
    async def scenario() -> None:
        wallet = SlowWallet()
        async with service(wallet) as running:
            client = await running.connect()
            client.writer.write(request_bytes(GOOD_BODY))
            first = await wallet.begun.get()
            batch = json.dumps({"transfers": [GOOD] * 2}).encode()
            client.writer.write(request_bytes(batch, path=BATCH) + request_bytes(GOOD_BODY)[:20])
            await asyncio.sleep(0.02)
            client.writer.write(request_bytes(GOOD_BODY)[20:])
            await asyncio.sleep(0.02)
            assert wallet.calls == []
            first(PAID)
            assert (await client.answer()).endswith(f'"success","transaction_id":"{TXID}"}}'.encode())
            assert (await client.answer()).count(b"success") == 2
            assert b'"success"' in await client.answer()

    uvloop.run(scenario())


def test_a_body_that_looks_like_a_request_is_none() -> None:
    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            for length in (len(request_bytes(GOOD_BODY)), BODY_BYTES_MAX + 1):
                client = await running.connect()
                head = f"POST {BATCH} HTTP/1.1\r\nhost: w\r\ncontent-length: {length}\r\n\r\n"
                client.writer.write(head.encode())
                if length > BODY_BYTES_MAX:  # answered before its body is read
                    assert b" 413 " in await client.answer()
                await asyncio.sleep(0.02)
                client.writer.write(request_bytes(GOOD_BODY))
                if length <= BODY_BYTES_MAX:
                    assert b" 400 " in await client.answer()
                await asyncio.sleep(0.02)
                assert wallet.calls == []

    uvloop.run(scenario())


def test_a_request_behind_one_that_goes_the_general_way_waits_too() -> None:
    async def scenario() -> None:
        wallet, go = SlowWallet(), asyncio.Event()

        async def slow(commands: Sequence[TransferCommand]) -> list[str]:
            await go.wait()
            return ["+"] * len(commands)

        wallet.transfer_many = slow  # type: ignore[method-assign]
        async with service(wallet) as running:
            client = await running.connect()
            client.writer.write(request_bytes(json.dumps({"transfers": [GOOD] * 2}).encode(), path=BATCH))
            await asyncio.sleep(0.02)
            client.writer.write(request_bytes(GOOD_BODY))
            await asyncio.sleep(0.02)
            assert wallet.begun.empty()
            go.set()
            assert b'"results"' in await client.answer()
            (await asyncio.wait_for(wallet.begun.get(), ANSWER_S_MAX))(PAID)
            assert b'"success"' in await client.answer()

    uvloop.run(scenario())


def test_a_client_that_does_not_read_its_answers_gets_no_more_of_them(made: list[WalletHttpProtocol]) -> None:
    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            client = await running.connect()
            await client.ask(request_bytes(GOOD_BODY))
            made[0].pause_writing()  # as the transport does when its buffer is full
            client.writer.write(request_bytes(GOOD_BODY))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.readexactly(1), 0.05)
            made[0].resume_writing()
            assert b'"success"' in await client.answer()

    uvloop.run(scenario())


def test_stopping_answers_what_is_in_flight_and_closes() -> None:
    async def scenario() -> None:
        wallet = SlowWallet()
        async with service(wallet) as running:
            busy, idle = await running.connect(), await running.connect()
            idle.writer.write(request_bytes(GOOD_BODY))
            (await wallet.begun.get())(PAID)
            assert b"connection: close" not in await idle.answer()
            busy.writer.write(request_bytes(GOOD_BODY))
            decide = await wallet.begun.get()
            running.stop.set()
            assert await asyncio.wait_for(idle.reader.read(), ANSWER_S_MAX) == b""
            assert not running.task.done()
            decide(PAID)
            answer = await busy.answer()
            assert b"200 OK" in answer
            assert b"connection: close" in answer
            assert await asyncio.wait_for(busy.reader.read(), ANSWER_S_MAX) == b""
            await asyncio.wait_for(running.task, ANSWER_S_MAX)

    uvloop.run(scenario())


def test_a_client_that_hangs_up_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        wallet = SlowWallet()
        async with service(wallet) as running:
            client = await running.connect()
            client.writer.write(request_bytes(GOOD_BODY))
            decide = await wallet.begun.get()
            client.writer.transport.abort()
            await asyncio.sleep(0.05)
            decide(PAID)
            async with asyncio.timeout(ANSWER_S_MAX):
                while running.app.gate.in_flight:  # answers are sent after more urgent work
                    await asyncio.sleep(0)

    uvloop.run(scenario())


def test_a_connection_is_closed_when_it_was_idle_for_long_enough(made: list[WalletHttpProtocol]) -> None:
    async def scenario() -> None:
        wallet = SlowWallet()
        async with service(wallet) as running:
            client, loop = await running.connect(), asyncio.get_running_loop()
            for _ in range(2):
                client.writer.write(request_bytes(GOOD_BODY))
                decide = await wallet.begun.get()
                assert made[0].deadline_s == math.inf  # a connection with a request in flight is not idle
                decide(PAID)
                assert b'"success"' in await client.answer()
                assert KEEP_ALIVE_SECONDS - 5 < made[0].deadline_s - loop.time() <= KEEP_ALIVE_SECONDS
            made[0].deadline_s = loop.time()
            assert await asyncio.wait_for(client.reader.read(), ANSWER_S_MAX) == b""

    uvloop.run(scenario())


def test_a_request_that_comes_when_its_connection_was_idle_for_long_enough_is_answered(
    made: list[WalletHttpProtocol],
) -> None:
    """The request was not read yet, and its connection was closed as idle."""

    async def scenario() -> None:
        wallet = SlowWallet()
        async with service(wallet) as running:
            client = await running.connect()
            for late in (False, True):
                client.writer.write(request_bytes(GOOD_BODY))
                if late:
                    made[0].expired()
                    assert made[0].deadline_s < math.inf  # it still has a deadline, if nothing more arrives
                decide = await asyncio.wait_for(wallet.begun.get(), ANSWER_S_MAX)
                decide(PAID)
                assert b'"success"' in await client.answer()
            made[0].expired()
            assert await asyncio.wait_for(client.reader.read(), ANSWER_S_MAX) == b""

    uvloop.run(scenario())


@pytest.mark.parametrize(
    "head",
    [
        "GET {} HTTP/1.1\r\nhost: w\r\ncontent-length: 2",
        "POST {}?a=b HTTP/1.1\r\nhost: w\r\ncontent-length: 2",
        "POST {} HTTP/1.0\r\nhost: w\r\ncontent-length: 2",
        "POST {} HTTP/1.1\r\nhost: w",
        "POST {} HTTP/1.1\r\nhost: w\r\ncontent-length: 3",
        "POST {} HTTP/1.1\r\nhost: w\r\ncontent-length: +2",
        "POST {} HTTP/1.1\r\nhost: w\r\ncontent-length: 2\r\ncontent-length: 2",
        "POST {} HTTP/1.1\r\nhost: w\r\ncontent-length: 2\r\ntransfer-encoding: chunked",
        "POST {} HTTP/1.1\r\nhost: w\r\ncontent-length: 2\r\nexpect: 100-continue",
        "POST {} HTTP/1.1\r\nhost: w\r\ncontent-length: 2\r\nConnection: close",
        "POST {} HTTP/1.1\r\nhost: w\r\ncontent-length: 2\r\nconnection: upgrade\r\nupgrade: h2c",
        "POST {} HTTP/1.1\r\nhost: w\r\ncontent-length: 2\r\nidempotency-key: a\r\nidempotency-key: a",
        "POST {} HTTP/1.1\r\nhost: w\r\ncontent-length: 2\r\nauthorization: a\r\nauthorization: a",
        "POST {} HTTP/1.1\r\nhost : w\r\ncontent-length: 2",
        "POST {} HTTP/1.1\r\nhost: w\x00\r\ncontent-length: 2",
        "POST {} HTTP/1.1\r\nhost: w\r\ncontent-length: 2\r\n folded",
    ],
)
def test_only_an_ordinary_whole_request_takes_the_short_way(head: str) -> None:
    data = head.format(SINGLE).encode() + b"\r\n\r\n{}"
    reader = Heads()
    assert reader.split(data) is None
    assert reader.split(data) is None
    assert reader.split(request_bytes(b"{}")) == (Head(2, None, None, local_only=True), b"{}")
    assert reader.split(request_bytes(b"{}", "idempotency-key:  k ")) == (
        Head(2, "k", None, local_only=True),
        b"{}",
    )
    with_key = request_bytes(b"{}", "authorization: Bearer wk_a_b")
    assert reader.split(with_key) == (Head(2, None, b"Bearer wk_a_b", local_only=True), b"{}")
    for part in (data[:-3], request_bytes(b"{}") * 2, request_bytes(b"{}")[:-1]):
        assert reader.split(part) is None


def test_heads_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "HEADS_MAX", 3)
    reader = Heads()
    for number in range(20):
        assert reader.split(request_bytes(b"{}", f"user-agent: {number}")) is not None
        assert repr(reader) == f"<Heads known={number % 3 + 1}>"


def test_heads_that_come_once_or_are_long_are_not_remembered() -> None:
    reader = Heads()
    for number in range(3):
        for header in (f"idempotency-key: {number}", f"x-long: {number}{'x' * heads.HEAD_BYTES_MAX}"):
            assert reader.split(request_bytes(b"{}", header)) is not None
    assert repr(reader) == "<Heads known=0>"
    assert read_head(request_bytes(b"")) == Head(0, None, None, local_only=True)
