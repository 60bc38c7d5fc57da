"""Attacks on the framing of requests and on kept connections, all of which must fail."""

import asyncio
import contextlib
import json
import re
import resource
import socket
import time
from collections.abc import Iterator, Sequence

import pytest
import uvloop
from unit.http.test_direct import ANSWER_S_MAX, Client, SlowWallet, request_bytes, service
from unit.http.test_malformed import BATCH, GOOD, SINGLE, TXID, TXID_2
from unit.http.wallet_double import WalletDouble

from wallet_engine.domain.ids import pack_transaction_id
from wallet_engine.http import body as body_module
from wallet_engine.http import connections, framing, protocol
from wallet_engine.http import server as server_module
from wallet_engine.http.protocol import WalletHttpProtocol
from wallet_engine.service.api import TransferAnswer, TransferCommand

BODY = json.dumps(GOOD).encode()
BATCH_BODY = json.dumps({"transfers": [GOOD]}).encode()
#: A request that an attacker would like to smuggle in as another caller's.
HIDDEN = request_bytes(json.dumps({**GOOD, "from_account": "victim", "transaction_id": TXID_2}).encode())
PAID = TransferAnswer("+", False)


def payers(wallet: WalletDouble) -> list[str]:
    """The payers of all transfers, in order."""
    found = []
    for name, arguments in wallet.calls:
        commands = arguments[0] if name == "transfer_many" else [arguments[0]]
        found += [command.from_account for command in commands]
    return found


def chunked(body: bytes, *headers: str, trailers: bytes = b"", path: str = SINGLE) -> bytes:
    head = request_bytes(b"", *headers, path=path).replace(
        b"content-length: 0", b"transfer-encoding: chunked"
    )
    return head + b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers)


async def ended(client: Client) -> bytes:
    """All bytes until the server closes the connection."""
    return await asyncio.wait_for(client.reader.read(), ANSWER_S_MAX)


async def still_answers(client: Client) -> None:
    assert b" 200 " in await client.ask(request_bytes(BODY))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make time-outs a hundredth of their length."""
    monkeypatch.setattr(connections, "TICK_S", 0.02)
    monkeypatch.setattr(connections, "HEAD_SECONDS_MAX", 0.2)
    monkeypatch.setattr(connections, "BODY_SECONDS_MAX", 0.6)
    monkeypatch.setattr(connections, "UNREAD_SECONDS_MAX", 0.2)
    monkeypatch.setattr(body_module, "BODY_SECONDS_MAX", 0.3)
    monkeypatch.setattr(body_module, "SLOW_SECONDS", 0.2)


#: More than the buffers between two sockets can hold.
FLOOD_BYTES = 64 << 20
#: The same with answers of some 100 KiB.
ASKED = 400


# Upgrade ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [SINGLE, BATCH])
@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "TLS/1.3", "anything"])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_an_upgrade_is_not_taken_and_its_body_is_no_request(path: str, upgrade: str, in_pieces: bool) -> None:
    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            client = await running.connect()
            headers = (
                "Connection: keep-alive, Upgrade, HTTP2-Settings",
                f"Upgrade: {upgrade}",
                "HTTP2-Settings: AAMAAABkAAQAAP__",
            )
            body = BODY if path == SINGLE else BATCH_BODY
            request = request_bytes(body, *headers, path=path)
            answer = await (client.ask_in_pieces(request) if in_pieces else client.ask(request))
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            # A body that looks like a request is still a body.
            answer = await client.ask(request_bytes(HIDDEN, *headers, path=path))
            assert answer.startswith(b"HTTP/1.1 400 "), answer
            await still_answers(client)
            assert payers(wallet) == ["alice", "alice"]

    uvloop.run(scenario())


def test_curl_asking_for_http2_gets_its_answer_by_http1() -> None:
    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            curl = await asyncio.create_subprocess_exec(
                *("curl", "-s", "--http2", "-w", " %{http_version} %{http_code}", "-d", BODY.decode()),
                f"http://127.0.0.1:{running.port}{SINGLE}",
                stdout=asyncio.subprocess.PIPE,
            )
            said, _ = await asyncio.wait_for(curl.communicate(), ANSWER_S_MAX)
            assert said.endswith(b" 1.1 200")
            assert payers(wallet) == ["alice"]

    uvloop.run(scenario())


def test_a_tunnel_is_not_opened() -> None:
    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            client = await running.connect()
            client.writer.write(b"CONNECT bank:443 HTTP/1.1\r\nhost: w\r\n\r\n" + HIDDEN)
            answer = await ended(client)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"CONNECT is not supported" in answer
            assert wallet.calls == []

    uvloop.run(scenario())


def test_http2_from_the_start_is_refused() -> None:
    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            client = await running.connect()
            client.writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
            answer = await ended(client)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"application/problem+json" in answer
            assert b"HTTP/2" in answer

    uvloop.run(scenario())


# Heads -----------------------------------------------------------------------------------------------------------


def padded(size: int, name: str = "x") -> bytes:
    """A request whose head has this many bytes."""
    empty = len(request_bytes(BODY, f"{name}: ")) - len(BODY)
    return request_bytes(BODY, f"{name}: " + "y" * (size - empty))


@pytest.mark.parametrize("in_pieces", [False, True])
@pytest.mark.parametrize("name", ["x", "x-request-id", "tracestate"])
def test_heads_are_bounded_in_bytes_and_fields(in_pieces: bool, name: str) -> None:
    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            fields = framing.FIELDS_MAX - 2  # beside host and length
            for request, status in (
                (padded(framing.HEAD_BYTES_MAX, name), b" 200 "),
                (padded(framing.HEAD_BYTES_MAX + 1, name), b" 431 "),
                (request_bytes(BODY, *["a: b"] * fields), b" 200 "),
                (request_bytes(BODY, *["a: b"] * (fields + 1)), b" 431 "),
            ):
                client = await running.connect()
                answer = await (client.ask_in_pieces(request) if in_pieces else client.ask(request))
                assert status in answer.partition(b"\r\n")[0] + b" ", answer
                if status == b" 431 ":
                    assert b'"code":"head_too_large"' in answer
                    assert b"connection: close" in answer

    uvloop.run(scenario())


@pytest.mark.parametrize("flood", ["one header", "many headers", "no line", "a long path", "empty lines"])
def test_a_head_without_end_is_refused_while_others_are_served(flood: str) -> None:
    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            begin, part = {
                "one header": (f"POST {SINGLE} HTTP/1.1\r\nhost: w\r\nx: ", b"y" * 65536),
                "many headers": (f"POST {SINGLE} HTTP/1.1\r\nhost: w\r\n", b"a: b\r\n" * 10_000),
                "no line": ("", b"G" * 65536),
                "a long path": ("GET /", b"a" * 65536),
                "empty lines": ("", b"\r\n" * 32768),
            }[flood]
            attacker, other = await running.connect(), await running.connect()

            async def attack() -> None:
                attacker.writer.write(begin.encode())
                with contextlib.suppress(ConnectionError):
                    for _ in range(1024):  # 64 MiB
                        attacker.writer.write(part)
                        await attacker.writer.drain()

            attacking = asyncio.create_task(attack())
            loop, slowest_s = asyncio.get_running_loop(), 0.0
            for _ in range(50):
                began_s = loop.time()
                await still_answers(other)
                slowest_s = max(slowest_s, loop.time() - began_s)
                await asyncio.sleep(0.002)
            with contextlib.suppress(ConnectionError):  # a client that still sends may lose the answer
                answer = await ended(attacker)
                assert re.match(rb"HTTP/1.1 4(31|00) ", answer), answer
            attacking.cancel()
            assert slowest_s < 2

    uvloop.run(scenario())


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (["host: w"], 200),
        (["HOST: w"], 200),
        (["host:"], 200),
        ([], 400),
        (["host: w", "host: w"], 400),
        (["host: w", "Host: v"], 400),
    ],
)
@pytest.mark.parametrize("in_pieces", [False, True])
def test_there_is_one_host(hosts: list[str], status: int, in_pieces: bool) -> None:
    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            client = await running.connect()
            lines = [
                f"POST {SINGLE} HTTP/1.1",
                *hosts,
                f"content-length: {len(BODY)}",
                "content-type: application/json",
            ]
            request = "\r\n".join([*lines, "", ""]).encode() + BODY
            answer = await (client.ask_in_pieces(request) if in_pieces else client.ask(request))
            assert answer.startswith(b"HTTP/1.1 %d " % status), answer

    uvloop.run(scenario())


#: Heads that two programs may parse differently. Each is followed by a request that would be hidden in it.
SMUGGLING = [
    b"content-length: 5\r\ntransfer-encoding: chunked",
    b"transfer-encoding: chunked\r\ncontent-length: 5",
    b"transfer-encoding: chunked\r\ntransfer-encoding: identity",
    b"transfer-encoding: chunked, identity",
    b"transfer-encoding: xchunked",
    b"transfer-encoding:\x0bchunked",
    b"transfer-encoding : chunked",
    b" transfer-encoding: chunked",
    b"content-length: 5\r\ncontent-length: 6",
    b"content-length: 5, 5",
    b"content-length: +5",
    b"content-length: -5",
    b"content-length: 0x5",
    b"content-length: 5 5",
    b"content-length: 99999999999999999999",
    b"content-length\x00: 5",
    b"x: y\r\n z\r\ncontent-length: 5",
    b"x: y\ncontent-length: 5",
    b"x: y\rcontent-length: 5",
    b"upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 5\r\ntransfer-encoding: chunked",
]


@pytest.mark.parametrize("head", SMUGGLING)
def test_a_head_that_can_be_read_in_two_ways_is_refused(head: bytes) -> None:
    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            for path in (SINGLE, BATCH):
                client = await running.connect()
                begin = b"POST %b HTTP/1.1\r\nhost: w\r\n%b\r\n\r\n0\r\n\r\n" % (path.encode(), head)
                client.writer.write(begin + HIDDEN * 2)
                answer = await ended(client)
                assert answer.startswith(b"HTTP/1.1 400 "), answer
                assert len(re.findall(rb"HTTP/1.1 \d", answer)) == 1
            assert "victim" not in payers(wallet)

    uvloop.run(scenario())


@pytest.mark.parametrize(
    "fields",
    [
        b"transfer-encoding: identity\r\ntransfer-encoding: chunked",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        b"transfer-encoding: gzip, chunked",
        b"Transfer-Encoding: identity, chunked",
    ],
)
def test_a_body_in_a_coding_that_is_not_decoded_is_refused(fields: bytes) -> None:
    """A proxy in front that reads only one of the codings sees another end of the body."""

    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            client = await running.connect()
            plain = chunked(BODY)
            client.writer.write(plain.replace(b"transfer-encoding: chunked", fields) + HIDDEN)
            answer = await ended(client)
            assert answer.startswith(b"HTTP/1.1 400 "), answer
            assert b"Transfer-Encoding is chunked, once" in answer
            assert wallet.calls == []
            client = await running.connect()
            old = plain.replace(b"HTTP/1.1", b"HTTP/1.0")
            client.writer.write(old)
            assert (await ended(client)).startswith(b"HTTP/1.1 400 ")
            client = await running.connect()
            spelt = plain.replace(b"transfer-encoding: chunked", b"TRANSFER-ENCODING:\tChunked ")
            assert (await client.ask(spelt)).startswith(b"HTTP/1.1 200 ")

    uvloop.run(scenario())


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/1.10", b"http/1.1", b""])
def test_no_other_version_is_taken(version: bytes) -> None:
    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            client = await running.connect()
            client.writer.write(b"GET /healthz %b\r\nhost: w\r\n\r\n" % version)
            answer = await ended(client)
            assert answer.startswith(b"HTTP/1.1 400 "), answer

    uvloop.run(scenario())


@pytest.mark.parametrize(
    ("begin", "field"),
    [
        (b"CONNECT bank:443", b"x: y"),
        (b"POST /", b"x: y\nz: z"),
        (b"POST /", b"x: y\rz: z"),
        (b"POST /", b"x: y\r\n z"),
        (b"POST /", b"x: y\r\n\tz"),
        (b"POST /", b" x: y"),
    ],
)
def test_what_the_parser_should_refuse_does_not_depend_on_it(begin: bytes, field: bytes) -> None:
    head = b"%b HTTP/1.1\r\nhost: w\r\n%b\r\n\r\n"
    assert isinstance(framing.prepare(head % (begin, field)), framing.Fault)
    assert framing.prepare(head % (b"POST /", b"x: y")) == head % (b"POST /", b"x: y")


def test_who_goes_on_sending_reads_why_he_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server reads and ignores the rest: unread bytes at the end of a connection would reset it."""
    monkeypatch.setattr(connections, "LINGER_SECONDS_MAX", 10 * ANSWER_S_MAX)

    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            client = await running.connect()
            client.writer.write(b"GET / HTTP/1.1\r\nhost: w\r\nhost: v\r\n\r\n")
            async with asyncio.timeout(ANSWER_S_MAX):
                for _ in range(256):
                    client.writer.write(b"y" * 65536)
                    await client.writer.drain()
            assert (await ended(client)).startswith(b"HTTP/1.1 400 ")

    uvloop.run(scenario())


def test_who_is_refused_and_stays_is_thrown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TICK_S", 0.02)
    monkeypatch.setattr(connections, "LINGER_SECONDS_MAX", 0.2)

    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            client = await running.connect()
            client.writer.write(b"GET / HTTP/1.1\r\nhost: w\r\nhost: v\r\n\r\n")
            assert (await ended(client)).startswith(b"HTTP/1.1 400 ")

            async def stay() -> None:
                while True:
                    client.writer.write(b"y")
                    await client.writer.drain()
                    await asyncio.sleep(0.02)

            with pytest.raises(ConnectionError):
                await asyncio.wait_for(stay(), ANSWER_S_MAX)

    uvloop.run(scenario())


# Bodies ----------------------------------------------------------------------------------------------------------


def test_trailers_change_nothing() -> None:
    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            client = await running.connect()
            trailers = f"idempotency-key: {TXID_2}\r\nhost: other\r\nauthorization: Bearer x\r\n"
            without_id = {name: value for name, value in GOOD.items() if name != "transaction_id"}
            answer = await client.ask(chunked(json.dumps(without_id).encode(), trailers=trailers.encode()))
            assert answer.startswith(b"HTTP/1.1 400 "), answer
            assert b"transaction_id" in answer
            answer = await client.ask(chunked(BODY, trailers=trailers.encode()))
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            await still_answers(client)
            assert [arguments[0].transaction for _, arguments in wallet.calls] == [
                pack_transaction_id(TXID)
            ] * 2

    uvloop.run(scenario())


@pytest.mark.parametrize("size", [1, 3, 7, 64, 10_000])
def test_requests_one_behind_the_other_are_told_apart_however_they_are_cut(size: int) -> None:
    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            client = await running.connect()
            tricky = BATCH_BODY + b" \r\n\r\n \r\n\r\n"
            stream = b"".join(
                [
                    request_bytes(BODY),
                    chunked(BODY, trailers=b"x: y\r\n"),
                    chunked(tricky, path=BATCH),
                    request_bytes(tricky, path=BATCH),
                    b"\r\n" + request_bytes(BODY, "Upgrade: h2c", "Connection: Upgrade"),
                    chunked(BODY, "Upgrade: h2c", "Connection: Upgrade"),
                    b"GET /healthz HTTP/1.1\r\nhost: w\r\n\r\n",
                    request_bytes(BODY),
                ]
            )
            for start in range(0, len(stream), size):
                client.writer.write(stream[start : start + size])
                if size < 64:
                    await asyncio.sleep(0)
            for _ in range(8):
                answer = await client.answer()
                assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert payers(wallet) == ["alice"] * 7

    uvloop.run(scenario())


def test_empty_lines_in_a_chunk_cost_no_more_than_other_bytes() -> None:
    """Each copied all that came behind it: a caller without a key stopped the process with half a megabyte a second."""
    size = 1 << 20

    async def scenario() -> tuple[float, float]:
        async with service(WalletDouble()) as running:

            async def busy_s(filling: bytes) -> float:
                client, began_s = await running.connect(), time.process_time()
                body = b'{"transfers":[]' + filling * (size // len(filling)) + b"}"
                answer = await client.ask(chunked(body, path=BATCH))
                assert answer.startswith(b"HTTP/1.1 200 "), answer
                return time.process_time() - began_s

            await busy_s(b"    ")
            return await busy_s(b" \r\n\t" * 2), await busy_s(b"\r\n\r\n")

    others_s, empty_lines_s = uvloop.run(scenario())
    assert empty_lines_s < 1.0 + 10 * others_s, (empty_lines_s, others_s)


class Slow(SlowWallet):
    """A wallet that decides everything when the test says so, on both ways."""

    async def transfer(self, command: TransferCommand) -> TransferAnswer:
        await self.transfer_many([command])
        return PAID

    async def transfer_many(self, commands: Sequence[TransferCommand]) -> list[str]:
        decided = asyncio.Event()
        self.begun.put_nowait(lambda _: decided.set())
        await decided.wait()
        return ["+"] * len(commands)


def test_a_client_that_has_said_all_gets_its_answers() -> None:
    async def scenario() -> None:
        wallet = Slow()
        async with service(wallet) as running:
            single, batch = request_bytes(BODY), request_bytes(BATCH_BODY, path=BATCH)
            for request in (single, batch, batch + single, single + batch):
                client = await running.connect()
                client.writer.write(request)
                client.writer.write_eof()
                for _ in range(request.count(b"POST ")):
                    decide = await asyncio.wait_for(wallet.begun.get(), ANSWER_S_MAX)
                    await asyncio.sleep(0.02)
                    decide(PAID)
                answers = await ended(client)
                assert answers.count(b"HTTP/1.1 200 ") == request.count(b"POST "), answers
            client = await running.connect()
            client.writer.write(batch + single[:-1])  # the second request is never complete
            client.writer.write_eof()
            (await asyncio.wait_for(wallet.begun.get(), ANSWER_S_MAX))(PAID)
            assert (await ended(client)).count(b"HTTP/1.1 ") == 1

    uvloop.run(scenario())


def test_a_client_that_has_not_said_all_and_hangs_up_is_forgotten() -> None:
    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            for part in (b"", request_bytes(BODY)[:10], request_bytes(BODY)[:-1], chunked(BODY)[:-2]):
                client = await running.connect()
                client.writer.write(part)
                client.writer.write_eof()
                assert await ended(client) in (b"",)
            assert wallet.calls == []
            assert running.app.gate.in_flight == 0

    uvloop.run(scenario())


# Time ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_a_head_comes_whole_or_not_at_all() -> None:
    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            clients = [await running.connect() for _ in range(3)]
            for client, part in zip(
                clients, (b"P", request_bytes(BODY)[:40], request_bytes(BODY) + b"G"), strict=True
            ):
                client.writer.write(part)
            assert b" 200 " in await clients[2].answer()
            for client in clients:
                answer = await ended(client)
                assert answer.startswith(b"HTTP/1.1 408 "), answer
                assert b'"code":"request_timeout"' in answer

    uvloop.run(scenario())


async def dripped(client: Client, data: bytes) -> asyncio.Task[bytes]:
    """Send these bytes fifty times a second, until the server ends the connection in time. Returns its answer."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    ending = asyncio.create_task(client.reader.read())
    while not ending.done() and loop.time() - began_s < 10:
        client.writer.write(data)
        await asyncio.sleep(0.02)
    assert loop.time() - began_s < 8
    return ending


@pytest.mark.usefixtures("quick")
def test_a_head_that_goes_on_coming_gets_no_more_time() -> None:
    """Otherwise a byte now and then would keep a connection for ever."""

    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            client = await running.connect()
            client.writer.write(request_bytes(BODY)[:40])
            ending = await dripped(client, b"y")
            assert (await ending).startswith(b"HTTP/1.1 408 ")

    uvloop.run(scenario())


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("path", [SINGLE, BATCH, "/v1/accounts/alice/freeze"])
def test_a_body_comes_in_time_or_is_refused(path: str) -> None:
    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            client = await running.connect()
            client.writer.write(request_bytes(b"x" * 60_000, path=path)[:300])
            ending = await dripped(client, b"yy")
            if "freeze" not in path:  # that call has no body
                assert (await ending).startswith(b"HTTP/1.1 408 ")
                assert wallet.calls == []
            ending.exception()

    uvloop.run(scenario())


@pytest.mark.parametrize(("slow_s", "whole_s"), [(0.2, 60.0), (60.0, 0.3)])
def test_a_body_is_refused_that_is_slow_and_one_that_takes_long(
    monkeypatch: pytest.MonkeyPatch, slow_s: float, whole_s: float
) -> None:
    monkeypatch.setattr(body_module, "SLOW_SECONDS", slow_s)
    monkeypatch.setattr(body_module, "BODY_SECONDS_MAX", whole_s)

    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            client = await running.connect()
            client.writer.write(request_bytes(b"x" * 60_000)[:300])
            ending = await dripped(client, b"yy")
            assert (await ending).startswith(b"HTTP/1.1 408 ")

    uvloop.run(scenario())


@pytest.mark.parametrize("method", ["BREW", "get", "post", "PUT", "M-SEARCH", "PRI"])
@pytest.mark.parametrize(("path", "status"), [(SINGLE, b"405"), ("/nowhere", b"404")])
def test_a_method_that_no_path_takes_is_no_broken_request(method: str, path: str, status: bytes) -> None:
    """The parser's own list decided: any other method was 400, and ended the connection."""

    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            client = await running.connect()
            answer = await client.ask(request_bytes(BODY, path=path).replace(b"POST", method.encode(), 1))
            assert answer.startswith(b"HTTP/1.1 " + status)
            assert (b"\r\nallow: POST\r\n" in answer) is (status == b"405")
            assert b'"code":' in answer
            assert wallet.calls == []
            await still_answers(client)

    uvloop.run(scenario())


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_which_nothing_comes_is_refused_too(chunked: bool) -> None:
    """It was given more time than a slow one, and its connection ended without an answer."""

    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            client = await running.connect()
            head = request_bytes(b"x" * 600).partition(b"\r\n\r\n")[0]
            if chunked:
                head = head.replace(b"content-length: 600", b"transfer-encoding: chunked")
                assert b"chunked" in head
            client.writer.write(head + b"\r\n\r\n")
            assert (await ended(client)).startswith(b"HTTP/1.1 408 ")

    uvloop.run(scenario())


@pytest.mark.usefixtures("quick")
def test_a_connection_that_says_nothing_is_closed_when_it_was_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with service(WalletDouble(), keep_alive_seconds=0.3) as running:
            silent, used = await running.connect(), await running.connect()
            await still_answers(used)
            for client in (silent, used):
                assert await ended(client) == b""

    uvloop.run(scenario())


@pytest.mark.usefixtures("quick")
def test_who_does_not_read_the_answers_has_no_more_requests_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            with socket.create_connection(("127.0.0.1", running.port)) as raw:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                raw.setblocking(False)
                request, sent = b"GET /openapi.json HTTP/1.1\r\nhost: w\r\n\r\n" * 1000, 0
                loop = asyncio.get_running_loop()
                deadline_s = loop.time() + 5
                with contextlib.suppress(ConnectionError):
                    while loop.time() < deadline_s:
                        with contextlib.suppress(BlockingIOError):
                            sent += raw.send(request)
                        await asyncio.sleep(0.01)
                served = running.app.gate.metrics.in_flight
                assert served == 0
                text = running.app.direct.gate.metrics  # counted by endpoint
                answered = sum(
                    count.value
                    for (route, _), (count, _) in text._children.items()
                    if route == "/openapi.json"
                )
                # Only requests that fit into the buffers on the way are answered, and no others that were sent.
                assert answered < sent / len(request) * 1000 / 2
                assert loop.time() < deadline_s, "the connection was not given up"

    uvloop.run(scenario())


def test_what_is_pipelined_is_bounded() -> None:
    async def scenario() -> None:
        wallet = Slow()
        async with service(wallet) as running:
            client = await running.connect()
            for _ in range(200):
                client.writer.write(request_bytes(BODY) + request_bytes(BATCH_BODY, path=BATCH))
            first = await asyncio.wait_for(wallet.begun.get(), ANSWER_S_MAX)
            await asyncio.sleep(0.1)
            assert wallet.begun.empty()
            assert running.app.gate.in_flight == 1
            first(PAID)
            assert b" 200 " in await client.answer()
            client.writer.transport.abort()
            deciding = asyncio.create_task(decide_all(wallet))  # one more before the abort is seen
        deciding.cancel()
        assert running.app.gate.in_flight == 0

    async def decide_all(wallet: Slow) -> None:
        while True:
            (await wallet.begun.get())(PAID)

    uvloop.run(scenario())


def test_what_waits_behind_a_request_is_not_read() -> None:
    """Otherwise a client could fill the server's memory with unread requests."""

    async def scenario() -> None:
        wallet = Slow()
        async with service(wallet) as running:
            client, loop = await running.connect(), asyncio.get_running_loop()
            client.writer.write(request_bytes(BODY))
            decide = await asyncio.wait_for(wallet.begun.get(), ANSWER_S_MAX)
            client.writer.write(b"x" * FLOOD_BYTES)
            unsent, since_s = FLOOD_BYTES, loop.time()
            while unsent and loop.time() - since_s < 0.5:
                await asyncio.sleep(0.01)
                if (left := client.writer.transport.get_write_buffer_size()) < unsent:
                    unsent, since_s = left, loop.time()
            assert unsent
            client.writer.transport.abort()
            decide(PAID)

    uvloop.run(scenario())


def test_who_asks_one_by_one_and_reads_no_answer_is_not_answered_for_ever() -> None:
    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            client, loop = await running.connect(), asyncio.get_running_loop()
            requests = running.app.direct.gate.metrics

            def answered() -> int:
                return sum(
                    int(count.value)
                    for (route, _), (count, _) in requests._children.items()
                    if route == "/openapi.json"
                )

            for number in range(1, ASKED + 1):
                client.writer.write(b"GET /openapi.json HTTP/1.1\r\nhost: w\r\n\r\n")
                until_s = loop.time() + 1
                while answered() < number and loop.time() < until_s:
                    await asyncio.sleep(0.001)
                if answered() < number:
                    return
            raise AssertionError(f"{ASKED} answers lie in the server")

    uvloop.run(scenario())


def test_while_answers_lie_unread_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of the short way are small: it takes thousands of them to fill a socket."""
    made: list[WalletHttpProtocol] = []

    class Noted(WalletHttpProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(self)
            super().connection_made(transport)

    monkeypatch.setattr(server_module, "WalletHttpProtocol", Noted)

    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            client = await running.connect()
            await still_answers(client)
            (protocol,) = made
            protocol.pause_writing()
            client.writer.write(request_bytes(BODY))
            await asyncio.sleep(0.05)
            assert len(wallet.calls) == 1
            protocol.resume_writing()
            assert b" 200 " in await client.answer()

    uvloop.run(scenario())


# Connections -----------------------------------------------------------------------------------------------------


@pytest.fixture
def _many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], min(8192, before[1])), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_many_files")
def test_two_thousand_slow_and_idle_connections_delay_and_refuse_nobody() -> None:
    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            loop = asyncio.get_running_loop()
            held = []
            try:
                for number in range(2000):
                    raw = socket.socket()
                    raw.setblocking(False)
                    held.append(raw)
                    await loop.sock_connect(raw, ("127.0.0.1", running.port))
                    if number % 3:
                        await loop.sock_sendall(raw, request_bytes(BODY)[: 10 if number % 3 == 1 else -1])
                client, slowest_s = await running.connect(), 0.0
                for _ in range(200):
                    began_s = loop.time()
                    await still_answers(client)
                    slowest_s = max(slowest_s, loop.time() - began_s)
                assert slowest_s < 2
            finally:
                for raw in held:
                    raw.close()

    uvloop.run(scenario())


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with service(WalletDouble(), connections_max=3) as running:
            inside = [await running.connect() for _ in range(3)]
            for client in inside:
                await still_answers(client)
            outside = await running.connect()
            answer = await ended(outside)
            assert answer.startswith(b"HTTP/1.1 503 "), answer
            assert b'"code":"overloaded"' in answer
            assert b"retry-after: 1" in answer
            inside[0].writer.close()
            await inside[0].writer.wait_closed()
            async with asyncio.timeout(ANSWER_S_MAX):
                while True:
                    client = await running.connect()
                    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                        if b" 200 " in await client.ask(request_bytes(BODY)):
                            break
            await still_answers(inside[1])

    uvloop.run(scenario())


# What is posted --------------------------------------------------------------------------------------------------

FORM, JSON, TEXT = "application/x-www-form-urlencoded", "application/json", "text/plain"


@pytest.mark.parametrize(
    ("content_type", "origin", "status"),
    [
        (JSON, False, 200),
        (JSON, True, 200),
        ("application/json; charset=utf-8", False, 200),
        ("Application/JSON", True, 200),
        (FORM, False, 200),  # curl on this machine
        (FORM, True, 415),
        (TEXT, False, 415),
        (TEXT, True, 415),
        ("application/jsonp", False, 415),
        ("multipart/form-data; boundary=x", False, 415),
        (None, False, 200),
        (None, True, 415),
    ],
)
@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_page_in_a_browser_cannot_post(
    content_type: str | None, origin: bool, status: int, in_pieces: bool
) -> None:
    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            client = await running.connect()
            for path, body in ((SINGLE, BODY), (BATCH, BATCH_BODY), ("/v1/accounts/alice/freeze", b"{}")):
                lines = [f"POST {path} HTTP/1.1", "host: w", f"content-length: {len(body)}"]
                lines += [] if content_type is None else [f"content-type: {content_type}"]
                lines += ["origin: https://evil.example"] if origin else []
                request = "\r\n".join([*lines, "", ""]).encode() + body
                answer = await (client.ask_in_pieces(request) if in_pieces else client.ask(request))
                assert answer.startswith(b"HTTP/1.1 %d " % status), answer
                assert (b'"code":"unsupported_media_type"' in answer) is (status == 415)
            assert (wallet.calls == []) is (status == 415)

    uvloop.run(scenario())


@pytest.mark.parametrize("content_type", ["", f"content-type: {FORM}\r\n"])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_who_comes_from_elsewhere_says_that_it_is_json(
    monkeypatch: pytest.MonkeyPatch, content_type: str, in_pieces: bool
) -> None:
    monkeypatch.setattr(protocol, "get_remote_addr", lambda _: ("192.0.2.7", 40_000))

    async def scenario() -> None:
        wallet = WalletDouble()
        async with service(wallet) as running:
            client = await running.connect()
            head = f"POST {SINGLE} HTTP/1.1\r\nhost: w\r\n{content_type}content-length: {len(BODY)}\r\n\r\n"
            request = head.encode() + BODY
            answer = await (client.ask_in_pieces(request) if in_pieces else client.ask(request))
            assert answer.startswith(b"HTTP/1.1 415 "), answer
            assert wallet.calls == []

    uvloop.run(scenario())
