"""uvicorn's HTTP protocol with one system call per answer.

uvicorn writes the head and the body of an answer one after the other, and uvloop hands each write to the kernel at
once: two system calls and often two wake-ups of the client, which for a single transfer is a fifth of the API's CPU.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class JoiningTransport:
    """What is written to it within one turn of the event loop goes to the socket together, in order."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._unsent: list[bytes] = []
        self.is_closing = transport.is_closing

    def __repr__(self) -> str:
        return f"<JoiningTransport unsent={len(self._unsent)} {self._transport!r}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Keep it until the turn ends. As with any transport, it is lost if the connection is."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(data)

    def close(self) -> None:
        """Send what was written, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and not self.is_closing():
            self._transport.write(b"".join(unsent))


class JoiningHttpProtocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=…)`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, JoiningTransport(transport, self.loop)))
