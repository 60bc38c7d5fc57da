"""The journal's port: accepts connections, and makes those that must be secured identify themselves first.

It closes a connection that has not done so within `HANDSHAKE_S_MAX`. When too many handshakes are open it
closes the oldest, so that silent connections do not block others.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

from wallet_engine.journal.peer_tls import PeerMode, PeerTls
from wallet_engine.journal.refusals import Refusals
from wallet_engine.telemetry.descriptors import Reserve

HANDSHAKE_S_MAX: Final = 5.0
#: Maximum connections that have not identified themselves yet.
HANDSHAKES_MAX: Final = 128
BACKLOG: Final = 512
#: The first bytes of a TLS client (RFC 8446, 5.1: handshake record, legacy version 3.x). A plain client
#: begins with the length of its hello, which is far below 0x0316.
_TLS_BEGINS: Final = b"\x16\x03"
_LOOK_AGAIN_S: Final = 0.01
_ACCEPT_AGAIN_S: Final = 0.1

Factory = Callable[[], asyncio.Protocol]


class Door:
    """See the module. Without `tls` every connection is accepted, and its peer is unknown."""

    def __init__(self, factory: Factory, tls: PeerTls | None, refusals: Refusals, reserve: Reserve) -> None:
        self._factory = factory
        self._tls = tls
        self._refusals = refusals
        self._reserve = reserve
        self._server: asyncio.Server | None = None
        self._listeners: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        #: Open handshakes, the oldest first.
        self._coming: dict[asyncio.Task[None], None] = {}

    def __repr__(self) -> str:
        return f"<Door tls={self._tls and self._tls.mode} coming={len(self._coming)}>"

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen; port 0 takes any. Returns the address. Raises OSError."""
        loop = asyncio.get_running_loop()
        if self._tls is None:
            self._server = await loop.create_server(self._factory, host, port)
            address = self._server.sockets[0].getsockname()
            return address[0], address[1]
        for family, _, _, _, found in await loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            # With port 0 the first listener takes a free port; the others take the same one.
            place = (
                found if not self._listeners else (found[0], self._listeners[0].getsockname()[1], *found[2:])
            )
            listener = socket.create_server(place, family=family, backlog=BACKLOG)
            listener.setblocking(False)
            self._listeners.append(listener)
            self._tasks.append(loop.create_task(self._accept(listener), name="door"))
        address = self._listeners[0].getsockname()
        return address[0], address[1]

    async def close(self) -> None:
        """Stop listening. Connections that were let in stay."""
        if self._server is not None:
            self._server.close()
            return
        for task in (*self._tasks, *self._coming):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._coming, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    async def closed(self) -> None:
        """Wait until no connection of `create_server` is left."""
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, _ = await loop.sock_accept(listener)
            except OSError as error:  # no descriptor is left, or the client is gone
                self._refusals.note("descriptors", error=error)
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            if self._reserve.refuses(connected.fileno()):
                self._refusals.note("descriptors")
                connected.close()
                continue
            task = loop.create_task(self._admit(connected), name="handshake")
            self._coming[task] = None
            task.add_done_callback(lambda done: self._coming.pop(done, None))
            if len(self._coming) > HANDSHAKES_MAX:
                self._refusals.note("handshakes")
                next(iter(self._coming)).cancel()

    async def _admit(self, connected: socket.socket) -> None:
        """Make one connection identify itself if needed, and give it a protocol."""
        assert self._tls is not None
        loop = asyncio.get_running_loop()
        taken = False
        connected.setblocking(False)
        try:
            async with asyncio.timeout(HANDSHAKE_S_MAX):
                secured = self._tls.mode is PeerMode.REQUIRED or await _begins(connected) == _TLS_BEGINS
                context = self._tls.server() if secured else None
                await loop.connect_accepted_socket(self._factory, connected, ssl=context)
                taken = True
        except (OSError, TimeoutError, ssl.SSLError) as error:
            self._refusals.note("handshake", error=error or "it took too long")
        finally:
            if not taken:
                connected.close()


async def _begins(connected: socket.socket) -> bytes:
    """Peek at the first bytes; they stay in the socket. Raises OSError."""
    loop = asyncio.get_running_loop()
    while True:
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(connected.fileno(), _settle, readable)
        try:
            await readable
        finally:
            loop.remove_reader(connected.fileno())
        seen = connected.recv(len(_TLS_BEGINS), socket.MSG_PEEK)
        if len(seen) != 1:
            return seen
        await asyncio.sleep(_LOOK_AGAIN_S)


def _settle(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)
