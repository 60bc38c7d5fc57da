"""An HTTP/1.1 client for the load generator: keep-alive, prepared requests, a minimal parser.

Everything happens in callbacks of the protocol, without tasks or futures: the generator shares its cores with the
measured processes, so it must use little CPU.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Final, cast

from wallet_engine.domain.addresses import split_address

_LENGTH: Final = b"content-length: "
_HEAD_END: Final = b"\r\n\r\n"
#: Maximum head of an answer. A longer one is not the engine's.
HEAD_BYTES_MAX: Final = 16 * 1024

#: Called with the caller, status, body and latency in seconds.
OnAnswer = Callable[["Caller", int, bytes, float], None]


class BadAnswer(Exception):
    """The bytes are no HTTP answer with a length."""


def request_bytes(path: str, body: bytes, *, host: str) -> bytes:
    """The bytes of a POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + _HEAD_END + body


def with_key(request: bytes, key: str) -> bytes:
    """The request with a header that sends this key."""
    line, rest = request.split(b"\r\n", 1)
    return b"%b\r\nAuthorization: Bearer %b\r\n%b" % (line, key.encode(), rest)


def parse_head(data: bytes) -> tuple[int, int, int] | None:
    """`(status, start of body, length of body)`; None when the head is not complete. Raises `BadAnswer`."""
    end = data.find(_HEAD_END)
    if end < 0:
        if len(data) > HEAD_BYTES_MAX:
            raise BadAnswer("the head of the answer does not end")
        return None
    start = data.find(_LENGTH, 0, end + 2)
    if start < 0:
        head = data[:end].lower()
        start = head.find(_LENGTH)
        if start < 0:
            raise BadAnswer(f"an answer without a length: {data[:80]!r}")
    start += len(_LENGTH)
    try:
        return int(data[9:12]), end + 4, int(data[start : data.find(b"\r\n", start)])
    except ValueError:
        raise BadAnswer(f"not an HTTP answer: {data[:80]!r}") from None


class Caller(asyncio.Protocol):
    """One connection with at most one unanswered request."""

    def __init__(self, number: int, on_answer: OnAnswer, on_lost: Callable[["Caller"], None]) -> None:
        self.number = number
        self.waiting = False
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._since_s = 0.0
        self._parts: list[bytes] = []
        self._received = 0
        self._status = 0
        self._body_start = 0
        self._end = 0

    def __repr__(self) -> str:
        return f"<Caller {self.number} waiting={self.waiting}>"

    def send(self, request: bytes, since_s: float) -> None:
        """Send a request; its latency counts from `since_s` (`perf_counter`). The previous one must be answered."""
        if self.waiting or self._transport is None:
            raise RuntimeError(f"{self!r} cannot send now")
        self.waiting = True
        self._since_s = since_s
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class is no subclass of it

    def data_received(self, data: bytes) -> None:
        if self._end:
            self._parts.append(data)
            self._received += len(data)
            if self._received < self._end:
                return
            data = b"".join(self._parts)
        else:
            if self._parts:
                data = b"".join((*self._parts, data))
            head = parse_head(data)
            if head is None:
                self._parts = [data]
                return
            self._status, self._body_start, length = head
            end = self._body_start + length
            if len(data) < end:
                self._parts, self._received, self._end = [data], len(data), end
                return
        latency_s = time.perf_counter() - self._since_s
        self._parts, self._end = [], 0
        self.waiting = False
        self._on_answer(self, self._status, data[self._body_start :], latency_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_lost(self)


async def connect(
    address: str,
    number: int,
    on_answer: OnAnswer,
    on_lost: Callable[[Caller], None],
    tls: ssl.SSLContext | None = None,
) -> Caller:
    """A caller connected to `host:port`."""
    host, port = split_address(address)
    loop = asyncio.get_running_loop()
    _, caller = await loop.create_connection(lambda: Caller(number, on_answer, on_lost), host, port, ssl=tls)
    return caller
