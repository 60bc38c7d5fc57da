"""Every answer and its log lines have the id of the request: the caller's own, or else a new one."""

import asyncio
import json
import re

import pytest
import uvloop
from unit.http.test_direct import GOOD_BODY, Client, request_bytes, service
from unit.http.wallet_double import WalletDouble

from wallet_engine.http import heads
from wallet_engine.http.heads import Heads
from wallet_engine.http.request_ids import REQUEST_ID_BYTES_MAX, names_of
from wallet_engine.service.api import TransferCommand
from wallet_engine.telemetry.logging import configure_logging

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
#: The value of the request's header, and the id in the answer; "" means a new id.
GIVEN = [
    ("X-Request-Id: a-1", "a-1"),
    ("x-request-id:\t{b/2}  ", "{b/2}"),
    (f"x-request-id: {'x' * REQUEST_ID_BYTES_MAX}", "x" * REQUEST_ID_BYTES_MAX),
    (f"x-request-id: {'x' * (REQUEST_ID_BYTES_MAX + 1)}", ""),
    ("x-request-id: two words", ""),
    ("x-request-id: caf\xe9", ""),
    ("x-request-id:", ""),
    ("x-other: x-request-id: c", ""),
    (f"traceparent: {TRACEPARENT}", TRACE),
    (f"traceparent: {TRACEPARENT}\r\nx-request-id: a-2", "a-2"),
    (f"traceparent: cc-{TRACE}-{PARENT}-01-more", TRACE),
    (f"traceparent: ff-{TRACE}-{PARENT}-01", ""),
    (f"traceparent: 00-{'0' * 32}-{PARENT}-01", ""),
    (f"traceparent: 00-{TRACE}-{'0' * 16}-01", ""),
    (f"traceparent: 00-{TRACE}-01", ""),
]


async def id_of(client: Client, data: bytes, *, in_pieces: bool = False) -> str:
    if in_pieces:
        client.writer.write(data[:10])
        await asyncio.sleep(0.002)
        data = data[10:]
    client.writer.write(data)
    head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 20)
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    await client.reader.readexactly(length)
    (found,) = re.findall(rb"\r\nx-request-id: ([^\r]+)\r\n", head)
    return str(found.decode())


def test_every_answer_carries_the_id_of_its_request() -> None:
    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            made = set()
            for given, expected in GIVEN:
                for body in (GOOD_BODY, b"{"):
                    client = await running.connect()
                    data = request_bytes(body, given).decode().encode("latin-1")
                    ids = [await id_of(client, data), await id_of(client, data, in_pieces=True)]
                    if expected:
                        assert ids == [expected, expected], given
                    else:
                        assert not made & set(ids), given
                        assert all(re.fullmatch("[0-9a-f]{24}", each) for each in ids), ids
                        assert len({*ids}) == 2, ids
                        made.update(ids)
            assert running.direct == len(GIVEN) * 2

    uvloop.run(scenario())


@pytest.mark.parametrize(
    "data",
    [
        b"GET /healthz HTTP/1.1\r\nhost: w\r\nx-request-id: a-1\r\n\r\n",
        b"HEAD /nowhere HTTP/1.1\r\nhost: w\r\nx-request-id: a-1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: w\r\nhost: v\r\nx-request-id: a-1\r\n\r\n",
        b"nonsense\r\nx-request-id: a-1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: w\r\nx-request-id: a-1\r\n" + b"a: b\r\n" * 100 + b"\r\n",
        b"GET / HTTP/1.1\r\nhost: w\r\nx-request-id: a-1\r\nx-long: " + b"x" * 17_000 + b"\r\n\r\n",
        b"POST /v1/accounts HTTP/1.1\r\nhost: w\r\nx-request-id: a-1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_also_what_is_refused_before_it_is_a_request(data: bytes) -> None:
    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            client = await running.connect()
            client.writer.write(data)
            head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 20)
            assert head.count(b"x-request-id: a-1\r\n") == 1, head

    uvloop.run(scenario())


def test_an_id_of_an_earlier_request_is_not_that_of_a_slow_one() -> None:
    async def scenario() -> None:
        async with service(WalletDouble()) as running:
            client = await running.connect()
            assert (
                await id_of(client, b"GET /healthz HTTP/1.1\r\nhost: w\r\nx-request-id: a-1\r\n\r\n") == "a-1"
            )
            assert await id_of(client, b"GET / HTTP/1.1\r\nx-y: z\r\n\r\n") != "a-1"

    uvloop.run(scenario())


def test_heads_that_differ_in_their_ids_are_remembered_once() -> None:
    reader = Heads()
    for number in range(heads.HEADS_MAX):
        named = request_bytes(
            b"{}", f"X-Request-Id: {number}", f"traceparent: {TRACEPARENT}", "tracestate: a=b, c=d"
        )
        found = reader.split(named)
        assert found is not None
        assert found[0].names == (str(number).encode(), TRACEPARENT.encode())
    assert repr(reader) == "<Heads known=1>"
    plain = reader.split(request_bytes(b"{}"))
    assert plain is not None
    assert plain[0].names is None


def test_ids_do_not_make_room_for_more_fields() -> None:
    many = [f"x-{number}: y" for number in range(61)]
    assert Heads().split(request_bytes(b"{}", *many)) is not None
    assert Heads().split(request_bytes(b"{}", *many, "x-request-id: a")) is not None
    assert (
        Heads().split(request_bytes(b"{}", *many, "x-request-id: a", f"traceparent: {TRACEPARENT}")) is None
    )


class BrokenWallet(WalletDouble):
    def begin_transfer(self, command: TransferCommand, answer: object) -> None:
        raise ValueError("a bug")

    async def transfer(self, command: TransferCommand) -> None:  # type: ignore[override]
        raise ValueError("a bug")


@pytest.mark.usefixtures("logging_restored")
def test_what_failed_is_found_in_the_log_by_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", json=True)

    async def scenario() -> None:
        async with service(BrokenWallet()) as running:
            client = await running.connect()
            for number, in_pieces in ((1, False), (2, True), (3, False)):
                data = request_bytes(GOOD_BODY, f"x-request-id: a-{number}")
                assert await id_of(client, data, in_pieces=in_pieces) == f"a-{number}"
            assert running.direct == 2

    uvloop.run(scenario())
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    said = [(line["event"], line["request_id"]) for line in lines if "request_id" in line]
    assert said == [("request failed", f"a-{number}") for number in (1, 2, 3)]


def test_a_head_is_named_by_whole_fields() -> None:
    head = b"POST /x-request-id: a HTTP/1.1\r\nhost: w\r\nx-request-id: b\r\nx-request-id: c\r\n\r\n"
    assert names_of(head) == (b"b", b"")
