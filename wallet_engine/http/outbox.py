"""Makes and sends answers in one go, after the wave that the same receipts have started.

A receipt ends some transfers, and lets the next operations of others be sent. Making and sending an answer costs as
much as packing a script call. So the calls come first: Redis works while callers are answered.
"""

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable
from typing import Any

from wallet_engine.telemetry.logging import get_logger

log = get_logger(__name__)


class Outbox:
    """Work for callers. Create and use it on one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Outbox waiting={len(self._waiting)}>"

    def add(self, work: Callable[[], None]) -> None:
        """Run `work` after everything that this round of the loop leaves for the next one, in the order of adding."""
        if not self._waiting:
            self._loop.call_soon(self._loop.call_soon, self._empty)
        self._waiting.append(work)

    def _empty(self) -> None:
        for work in self._waiting:  # it may grow: an answer that is made must then be sent
            try:
                work()
            except Exception:
                log.exception("an answer was not made or sent")
        self._waiting = []


class JoiningTransport:
    """Joins all writes until its outbox runs into one write to the socket, in order.

    uvicorn writes the head and the body of an answer one after the other, and uvloop passes each write to the kernel
    at once: two system calls and often two wake-ups of the client, a fifth of the API's CPU for a single transfer.
    """

    def __init__(self, transport: asyncio.Transport, outbox: Outbox) -> None:
        self._transport = transport
        self._outbox = outbox
        self._unsent: list[bytes] = []
        self.is_closing = transport.is_closing

    def __repr__(self) -> str:
        return f"<JoiningTransport unsent={len(self._unsent)} {self._transport!r}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Keep the data until the outbox runs. As with any transport, it is lost if the connection is lost before."""
        if not self._unsent:
            self._outbox.add(self._flush)
        self._unsent.append(data)

    def write_eof(self) -> None:
        """Send what was written, then the end of the stream."""
        self._flush()
        if not self.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Send what was written, then close."""
        self._flush()
        self._transport.close()

    def close_unless_asked(self) -> bool:
        """Close, unless received data is still unread. Returns whether it is closed.

        The kernel resets a connection that is closed with unread data, and that data may be a request for a payment.
        The event loop closes the descriptor one round later, so the end of the stream is sent now, for the client to
        see.
        """
        self._flush()
        link = self._transport.get_extra_info("socket")
        if not self.is_closing() and link is not None:
            unread = select.poll()
            unread.register(link, select.POLLIN)
            if unread.poll(0):
                return False
            plain = self._transport.get_extra_info("ssl_object") is None
            if plain and not self._transport.get_write_buffer_size():
                with (
                    contextlib.suppress(OSError),
                    socket.fromfd(link.fileno(), link.family, link.type) as same,
                ):
                    same.shutdown(socket.SHUT_WR)
        self._transport.close()
        return True

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and not self.is_closing():
            self._transport.write(b"".join(unsent) if len(unsent) > 1 else unsent[0])
