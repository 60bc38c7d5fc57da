"""The allowed addresses of webhooks: none of a private network, also when a name is resolved a second time."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

from wallet_engine.domain.errors import InvalidInput
from wallet_engine.webhooks import addresses
from wallet_engine.webhooks.addresses import Unreachable, check_host, check_url, resolve
from wallet_engine.webhooks.sending import Sender

pytestmark = pytest.mark.anyio

INSIDE = [
    "127.0.0.1",
    "127.8.9.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fd00::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
]
THREADS = ThreadPoolExecutor(1)
OUTSIDE = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]


def literal(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_inside_are_refused(address: str) -> None:
    with pytest.raises(
        InvalidInput, match=rf"url {re.escape(literal(address))} is not on the public internet"
    ):
        check_url(f"https://{literal(address)}/hook", allow_private=False)
    assert check_url(f"https://{literal(address)}/hook", allow_private=True)


@pytest.mark.parametrize("address", INSIDE)
async def test_they_are_refused_when_they_are_sent_to(address: str) -> None:
    with pytest.raises(Unreachable, match="public internet"):
        await resolve(address, 443, THREADS, allow_private=False)


@pytest.mark.parametrize("address", OUTSIDE)
async def test_addresses_outside_pass(address: str) -> None:
    assert check_url(f"https://{literal(address)}:8443/hook?a=b", allow_private=False)
    assert await resolve(address, 443, THREADS, allow_private=False) == [address]


@pytest.mark.parametrize("number", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1"])
async def test_other_ways_to_write_an_address_are_refused_where_they_are_understood(number: str) -> None:
    with pytest.raises(Unreachable):
        await resolve(number, 443, THREADS, allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.com", "ftp://example.com/", "https://", "https:///x", "https://user:pw@example.com/"),
        *(
            "https://u@example.com/",
            "https://example.com/#x",
            "https://example.com:0/",
            "https://example.com:x/",
        ),
        *("https://exa mple.com/", "https://example.com/\n", "https://exämple.com/", "https://[::1", 7, None),
        "https://example.com/" + "x" * 2_050,
    ],
)
def test_what_is_no_url_is_refused(url: Any) -> None:
    with pytest.raises(InvalidInput):
        check_url(url, allow_private=True)


def test_amounts_go_encrypted_unless_it_stays_inside() -> None:
    with pytest.raises(InvalidInput, match="must be https"):
        check_url("http://example.com/hook", allow_private=False)
    assert check_url("http://localhost:9000/hook", allow_private=True)


async def test_a_name_that_is_inside_is_refused() -> None:
    with pytest.raises(InvalidInput, match="public internet"):
        await check_host("https://localhost/hook")


class Names:
    """Answers each look-up with the next of these lists of addresses, and repeats the last one."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]


async def test_one_address_inside_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(["93.184.215.14", "10.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    with pytest.raises(Unreachable, match=r"10\.0\.0\.1"):
        await resolve("both.example", 443, THREADS, allow_private=False)


async def test_a_name_that_answers_differently_later_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name was public when the endpoint was made, and is private at the delivery. No connection is made."""
    connected: list[Any] = []

    async def accept(reader: Any, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    names = Names(["93.184.215.14"], ["127.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    url = f"https://rebound.example:{port}/"
    await check_host(url)
    sender = Sender(allow_private=False)
    reply = await sender.post(url, {}, b"{}")
    await sender.close()
    server.close()
    assert reply.status is None
    assert "public internet" in reply.error
    assert names.asked == 2
    assert not connected


@asynccontextmanager
async def hanging_names(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Look-ups of names below `hangs.example` do not end within the block."""
    goes_on, lookup = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any, **more: Any) -> list[Any]:
        if host.endswith("hangs.example"):
            assert goes_on.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return list(lookup(host, *rest, **more))

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        yield
    finally:
        goes_on.set()


async def test_g9_a_name_server_that_hangs_takes_no_thread_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a few such endpoints everything else in threads stopped too, and so all sinks of the process."""
    sender, other = Sender(allow_private=True, answer_s_max=3.0), Sender(allow_private=True, answer_s_max=3.0)
    async with hanging_names(monkeypatch):
        posts = [asyncio.create_task(sender.post("https://a.hangs.example/", {}, b"{}")) for _ in range(50)]
        await asyncio.sleep(0.1)
        assert await asyncio.wait_for(asyncio.to_thread(threading.get_ident), 2)
        reply = await other.post("http://localhost:1/", {}, b"{}")
        assert "attempts failed" in reply.error or "refused" in reply.error, reply
        for post in posts:
            post.cancel()
        await asyncio.gather(*posts, return_exceptions=True)
        await sender.close()
        await other.close()


async def test_the_check_of_a_new_url_does_not_wait_for_a_name_server_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(addresses, "LOOK_UP_S_MAX", 0.2)
    async with hanging_names(monkeypatch):
        began_s = time.monotonic()
        await asyncio.wait_for(check_host("https://b.hangs.example/hook"), 10)
        assert time.monotonic() - began_s < 5
