"""When answers go to their sockets: together, and behind the wave that the same receipts have called for.

A receipt ends some transfers and lets the next operations of others leave. Sending an answer costs as much as packing a
call of the script, so those that are packed first give Redis something to do while the answers are sent.
"""

import asyncio
from typing import Any


class Outbox:
    """Transports with something to send. Create and use it on one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[JoiningTransport] = []

    def __repr__(self) -> str:
        return f"<Outbox waiting={len(self._waiting)}>"

    def add(self, transport: "JoiningTransport") -> None:
        """Have it flushed after all that this turn of the loop leaves to the next one."""
        if not self._waiting:
            self._loop.call_soon(self._loop.call_soon, self._flush)
        self._waiting.append(transport)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            transport.flush()


class JoiningTransport:
    """What is written to it until its outbox is emptied goes to the socket together, in order.

    uvicorn writes the head and the body of an answer one after the other, and uvloop hands each write to the kernel at
    once: two system calls and often two wake-ups of the client, which for a single transfer is a fifth of the API's CPU.
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
        """Keep it until the outbox is emptied. As with any transport, it is lost if the connection is."""
        if not self._unsent:
            self._outbox.add(self)
        self._unsent.append(data)

    def close(self) -> None:
        """Send what was written, then close."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Send what was written."""
        unsent, self._unsent = self._unsent, []
        if unsent and not self.is_closing():
            self._transport.write(b"".join(unsent) if len(unsent) > 1 else unsent[0])
