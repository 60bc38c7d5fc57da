"""The application on a real uvicorn: clients that disconnect, bodies on the wire, stopping."""

import asyncio
import json
import select
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import uvloop
from unit.http.test_malformed import BATCH, GOOD, SINGLE
from unit.http.wallet_double import WalletDouble, assert_problem

from wallet_engine.domain.errors import ConfigError
from wallet_engine.domain.limits import BODY_BYTES_MAX
from wallet_engine.http.application import create_app
from wallet_engine.http.crowd import Crowd
from wallet_engine.http.protocol import WalletHttpProtocol
from wallet_engine.http.server import serve_http
from wallet_engine.service.api import TransferCommand


class SlowWallet(WalletDouble):
    """A wallet whose batches end when `go` is set, even when nobody waits any more, as `service.api` promises."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def transfer_many(self, commands: Sequence[TransferCommand]) -> list[str]:
        self.begun.set()
        await asyncio.shield(asyncio.create_task(self._transfer()))
        return ["+"] * len(commands)

    async def open_account(self, *asked: Any, **more: Any) -> Any:
        """Unlike a batch, it ends with the task that waits for it. So HTTP must continue to wait."""
        self.begun.set()
        await self._transfer()
        return await super().open_account(*asked, **more)

    async def _transfer(self) -> None:
        await self.go.wait()
        self.ended.set()


class Running:
    """A running server, its address, and how to stop it."""

    def __init__(self, wallet: WalletDouble, drain_seconds_max: float, leave_seconds: float) -> None:
        self.stop = asyncio.Event()
        self._url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(
            serve_http(
                create_app(wallet),
                "127.0.0.1",
                0,
                stop=self.stop,
                on_listening=self._url.set_result,
                drain_seconds_max=drain_seconds_max,
                leave_seconds=leave_seconds,
            )
        )

    async def url(self) -> str:
        return await asyncio.wait_for(self._url, 5)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        _, _, port = (await self.url()).rpartition(":")
        return await asyncio.open_connection("127.0.0.1", int(port))


@asynccontextmanager
async def running(
    wallet: WalletDouble, *, drain_seconds_max: float = 5, leave_seconds: float = 0
) -> AsyncIterator[Running]:
    server = Running(wallet, drain_seconds_max, leave_seconds)
    try:
        yield server
    finally:
        server.stop.set()
        await asyncio.wait_for(server.task, 10)


def request_bytes(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: wallet", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


BATCH_BODY = json.dumps({"transfers": [GOOD] * 3}).encode()


def test_client_that_hangs_up_does_not_cancel_its_batch() -> None:
    async def scenario() -> None:
        wallet = SlowWallet()
        async with running(wallet) as server:
            _, writer = await server.connect()
            writer.write(request_bytes(BATCH, BATCH_BODY))
            await asyncio.wait_for(wallet.begun.wait(), 5)
            writer.transport.abort()
            await asyncio.sleep(0.1)
            wallet.go.set()
            await asyncio.wait_for(wallet.ended.wait(), 5)
            async with httpx.AsyncClient(base_url=await server.url()) as client:
                assert (await client.post(SINGLE, json=GOOD)).status_code == 200

    uvloop.run(scenario())


def test_client_that_hangs_up_while_sending_moves_nothing() -> None:
    async def scenario() -> None:
        wallet = WalletDouble()
        async with running(wallet) as server:
            _, writer = await server.connect()
            writer.write(request_bytes(BATCH, BATCH_BODY)[:-1])
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.transport.abort()
            await asyncio.sleep(0.1)
            assert wallet.calls == []

    uvloop.run(scenario())


def test_stop_finishes_requests_in_flight_and_refuses_new_ones() -> None:
    async def scenario() -> None:
        wallet = SlowWallet()
        async with running(wallet) as server, httpx.AsyncClient(base_url=await server.url()) as client:
            request = asyncio.create_task(client.post(BATCH, content=BATCH_BODY))
            await asyncio.wait_for(wallet.begun.wait(), 5)
            server.stop.set()
            await asyncio.sleep(0.3)
            with pytest.raises(ConnectionRefusedError):
                await server.connect()
            assert not server.task.done()
            wallet.go.set()
            response = await request
            assert (response.status_code, len(response.json()["results"])) == (200, 3)
            await asyncio.wait_for(server.task, 5)

    uvloop.run(scenario())


@pytest.mark.parametrize(
    ("path", "body"), [(BATCH, BATCH_BODY), ("/v1/accounts", b'{"account_id":"ann","currency":"USD"}')]
)
def test_stop_gives_up_waiting_but_not_what_was_begun(path: str, body: bytes) -> None:
    async def scenario() -> None:
        wallet = SlowWallet()
        async with running(wallet, drain_seconds_max=0.2) as server:
            _, writer = await server.connect()
            request = request_bytes(path, body)
            writer.write(request[:-1])
            await asyncio.sleep(0.05)  # a request in pieces goes to ASGI, whose handlers are cancelled
            writer.write(request[-1:])
            await asyncio.wait_for(wallet.begun.wait(), 5)
            server.stop.set()
            await asyncio.wait_for(server.task, 5)
            writer.transport.abort()
        wallet.go.set()
        await asyncio.wait_for(wallet.ended.wait(), 5)

    uvloop.run(scenario())


@pytest.mark.parametrize("chunked", [False, True])
def test_client_reads_the_refusal_of_a_large_body(chunked: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(BODY_BYTES_MAX // 2**18 * 4):
            yield b" " * 2**18

    async def scenario() -> None:
        async with (
            running(WalletDouble()) as server,
            httpx.AsyncClient(base_url=await server.url()) as client,
        ):
            content = parts() if chunked else b" " * BODY_BYTES_MAX * 4
            assert_problem(await client.post(BATCH, content=content), 413, "request_too_large")
            assert (await client.post(SINGLE, json=GOOD)).status_code == 200

    uvloop.run(scenario())


def test_large_body_within_the_limit_is_taken() -> None:
    async def scenario() -> None:
        async with (
            running(WalletDouble()) as server,
            httpx.AsyncClient(base_url=await server.url()) as client,
        ):
            body = BATCH_BODY + b" " * (BODY_BYTES_MAX - len(BATCH_BODY))
            assert (await client.post(BATCH, content=body)).status_code == 200

    uvloop.run(scenario())


def test_refusal_comes_before_the_body_is_asked_for() -> None:
    async def scenario() -> None:
        async with running(WalletDouble()) as server:
            reader, writer = await server.connect()
            head = f"POST {BATCH} HTTP/1.1\r\nhost: w\r\nexpect: 100-continue\r\n"
            writer.write(f"{head}content-length: {BODY_BYTES_MAX + 1}\r\n\r\n".encode())
            assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
            writer.transport.abort()

    uvloop.run(scenario())


def test_requests_may_be_pipelined() -> None:
    async def scenario() -> None:
        async with running(WalletDouble()) as server:
            reader, writer = await server.connect()
            writer.write(request_bytes(SINGLE, json.dumps(GOOD).encode()) * 3)
            text = b""
            while text.count(b"success") < 3:
                text += await asyncio.wait_for(reader.read(65536), 5)
            assert text.count(b"HTTP/1.1 200 OK") == 3
            writer.transport.abort()

    uvloop.run(scenario())


def test_address_that_is_taken_is_a_config_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        serving = serve_http(create_app(WalletDouble()), "127.0.0.1", port, stop=asyncio.Event())
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            asyncio.run(serving)


def test_who_is_about_to_end_says_so_and_answers_meanwhile() -> None:
    """No caller is refused: `/readyz` says unready, each answer closes its connection, new ones are accepted."""

    async def ask(
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], data: bytes
    ) -> tuple[bytes, bytes]:
        reader, writer = connection
        writer.write(data)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        return head, await reader.readexactly(
            int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        )

    readyz = b"GET /readyz HTTP/1.1\r\nhost: wallet\r\n\r\n"
    single = request_bytes(SINGLE, json.dumps(GOOD).encode())

    async def scenario() -> None:
        async with running(WalletDouble(), leave_seconds=3.0) as server:
            asked = [(single, 200), (request_bytes(BATCH, BATCH_BODY), 200), (readyz, 503)]
            idle = [await server.connect() for _ in asked]
            for connection in idle:
                head, _ = await ask(connection, readyz)
                assert head.startswith(b"HTTP/1.1 200 ")
            server.stop.set()
            await asyncio.sleep(0)
            for connections in (idle, [await server.connect() for _ in asked]):
                for connection, (data, status) in zip(connections, asked, strict=True):
                    head, body = await ask(connection, data)
                    assert head.startswith(b"HTTP/1.1 %d " % status), head
                    assert b"\r\nconnection: close\r\n" in head.lower()
                    assert await connection[0].read() == b""
                    connection[1].close()
                    assert status == 200 or json.loads(body)["reason"] == "this process is about to end"
            assert not server.task.done()
            await asyncio.wait_for(server.task, 10)

    uvloop.run(scenario())


def test_who_was_let_in_as_one_of_the_last_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request on a connection that was accepted, but not read yet, ended in a reset."""
    monkeypatch.setattr("wallet_engine.http.server.SILENT_SECONDS_MAX", 20.0)

    async def scenario() -> None:
        async with running(WalletDouble(), leave_seconds=0.1) as server:
            silent = [await server.connect() for _ in range(3)]
            halfway, *_ = silent
            request = request_bytes(SINGLE, json.dumps(GOOD).encode())
            halfway[1].write(request[:9])
            server.stop.set()
            with suppress(ConnectionRefusedError):
                while True:
                    silent.append(await asyncio.wait_for(server.connect(), 10))
                    await asyncio.sleep(0.01)
            for connection in silent:
                connection[1].write(request[9:] if connection is halfway else request)
                answer = await connection[0].read()
                assert answer.startswith(b"HTTP/1.1 200 ")
                assert b"\r\nconnection: close\r\n" in answer.lower()
                connection[1].close()
            await asyncio.wait_for(server.task, 10)  # the server waits for no other caller

    uvloop.run(scenario())


def test_who_waits_at_the_door_when_it_is_closed_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the connections that came while the event loop was busy, 63 were accepted and the others reset."""
    waiting = 150
    connections: list[socket.socket] = []
    request = request_bytes(SINGLE, json.dumps(GOOD).encode())
    let_in = Crowd.let_in_the_last

    async def scenario() -> None:
        async with running(WalletDouble(), leave_seconds=0.05) as server:
            first = await server.connect()  # so that the server has accepted a connection before
            _, _, port = (await server.url()).rpartition(":")

            async def crowded(crowd: Crowd) -> None:
                for _ in range(waiting):
                    connections.append(socket.create_connection(("127.0.0.1", int(port)), timeout=10))
                    connections[-1].sendall(request)
                await let_in(crowd)

            monkeypatch.setattr(Crowd, "let_in_the_last", crowded)
            server.stop.set()
            await asyncio.wait_for(server.task, 20)
            first[1].close()

    uvloop.run(scenario())
    assert len(connections) == waiting
    for connection in connections:
        with connection:
            assert answer_of(connection).startswith(b"HTTP/1.1 200 ")


def test_who_comes_when_the_last_were_let_in_is_not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a caller was connected, and the closing of the listener reset the connection during the request."""
    let_in = Crowd.let_in_the_last
    tried: list[bool] = []

    async def scenario() -> None:
        async with running(WalletDouble(), leave_seconds=0.05) as server:
            _, writer = await server.connect()
            _, _, port = (await server.url()).rpartition(":")

            async def late(crowd: Crowd) -> None:
                await let_in(crowd)
                with socket.socket() as caller:
                    caller.settimeout(0.1)
                    try:
                        caller.connect(("127.0.0.1", int(port)))
                    except TimeoutError:
                        tried.append(False)
                    else:
                        tried.append(True)

            monkeypatch.setattr(Crowd, "let_in_the_last", late)
            server.stop.set()
            await asyncio.wait_for(server.task, 20)
            writer.close()

    uvloop.run(scenario())
    assert tried == [False]


def test_a_request_that_is_unread_when_the_process_ends_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept connection with an unread request was closed as idle, and the caller got a reset."""
    request = request_bytes(SINGLE, json.dumps(GOOD).encode())
    shutdown = WalletHttpProtocol.shutdown
    answers: list[bytes] = []

    async def scenario() -> None:
        async with running(WalletDouble()) as server:
            kept = [await kept_connection(server, request) for _ in range(3)]
            late, halfway, _ = kept
            halfway.sendall(request[:9])
            await asyncio.sleep(0.1)

            def shut_down(protocol: WalletHttpProtocol) -> None:
                peer = protocol.transport.get_extra_info("peername")
                if peer == late.getsockname():
                    late.sendall(request)
                shutdown(protocol)
                if peer == halfway.getsockname():
                    halfway.sendall(request[9:])

            monkeypatch.setattr(WalletHttpProtocol, "shutdown", shut_down)
            server.stop.set()
            await asyncio.wait_for(server.task, 10)  # it does not wait for the one without a request
            answers.extend(answer_of(each) for each in kept)
            for each in kept:
                each.close()

    uvloop.run(scenario())
    assert answers.pop() == b""
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer.lower()


def test_the_end_of_an_idle_connection_is_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop closes it one round later. A client that checks before it sends would use it until then."""
    request = request_bytes(SINGLE, json.dumps(GOOD).encode())
    shutdown = WalletHttpProtocol.shutdown
    seen: list[bool] = []

    async def scenario() -> None:
        async with running(WalletDouble()) as server:
            kept = await kept_connection(server, request)

            def shut_down(protocol: WalletHttpProtocol) -> None:
                shutdown(protocol)
                seen.append(bool(select.select([kept], [], [], 0)[0]))

            monkeypatch.setattr(WalletHttpProtocol, "shutdown", shut_down)
            server.stop.set()
            await asyncio.wait_for(server.task, 10)
            kept.close()

    uvloop.run(scenario())
    assert seen == [True]


def test_an_answer_that_is_being_sent_is_whole_when_the_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is idle already, but its answer is not sent yet."""
    request = request_bytes(SINGLE, json.dumps(GOOD).encode())
    answer = WalletHttpProtocol._answer

    async def scenario() -> None:
        async with running(WalletDouble()) as server:
            kept = await kept_connection(server, request)

            def answered(protocol: WalletHttpProtocol, given: Any) -> None:
                answer(protocol, given)
                protocol.shutdown()

            monkeypatch.setattr(WalletHttpProtocol, "_answer", answered)
            kept.sendall(request)
            said = await asyncio.to_thread(answer_of, kept)
            kept.close()
            assert said.startswith(b"HTTP/1.1 200 ")
            assert said.endswith(b"}")

    uvloop.run(scenario())


async def kept_connection(server: Running, request: bytes) -> socket.socket:
    """A connection that both sides keep after an answered request."""
    _, _, port = (await server.url()).rpartition(":")
    connection = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", int(port)), 10)
    connection.sendall(request)
    assert (await asyncio.to_thread(connection.recv, 65536)).startswith(b"HTTP/1.1 200 ")
    return connection


def answer_of(connection: socket.socket) -> bytes:
    """All bytes until the connection ends."""
    said = b""
    while piece := connection.recv(65536):
        said += piece
    return said


def test_who_says_nothing_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wallet_engine.http.server.SILENT_SECONDS_MAX", 0.2)

    async def scenario() -> None:
        async with running(WalletDouble(), leave_seconds=0.1) as server:
            reader, writer = await server.connect()
            server.stop.set()
            assert await asyncio.wait_for(reader.read(), 10) == b""
            await asyncio.wait_for(server.task, 10)
            writer.close()

    uvloop.run(scenario())


def test_many_that_come_at_once_are_let_in_within_few_rounds() -> None:
    """With long rounds of the event loop, the last of many connections waited a minute to be accepted."""
    crowd = 200

    async def main() -> int:
        async with running(WalletDouble()) as server:
            _, _, port = (await server.url()).rpartition(":")
            clients = [socket.create_connection(("127.0.0.1", int(port))) for _ in range(crowd)]
            unanswered = {client.fileno(): client for client in clients}
            poll = select.poll()
            for client in clients:
                client.sendall(b"GET /healthz HTTP/1.1\r\nhost: wallet\r\n\r\n")
                poll.register(client, select.POLLIN)
            rounds = 0
            while unanswered and rounds < 10 * crowd:
                await asyncio.sleep(0)
                rounds += 1
                for descriptor, _ in poll.poll(0):
                    assert unanswered.pop(descriptor).recv(12) == b"HTTP/1.1 200"
                    poll.unregister(descriptor)
            for client in clients:
                client.close()
            return rounds

    rounds = uvloop.run(main())
    assert rounds < crowd // 2, rounds
