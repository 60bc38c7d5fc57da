"""Accepts connections that arrive at the same time.

libuv accepts one connection per round of the event loop. Under load a round takes 0.1 s, so of several hundred
callers that come together the last would wait for tens of seconds. So after each connection that libuv accepts, this
accepts the others.

With TLS it accepts all of them. The protocol sees a connection only after its handshake, so it cannot refuse those that
never end it and keep the last descriptors, which the process needs itself.
"""

import asyncio
import contextlib
import ctypes
import errno
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from wallet_engine.telemetry.descriptors import Reserve, is_reserved

#: Connections accepted after one of libuv's in the same round.
TAKEN_PER_ROUND_MAX: Final = 63

#: Time for a handshake of TCP that has begun to end: one round trip to a distant client.
HANDSHAKE_SECONDS: Final = 0.05

#: Maximum time for a handshake of TLS; as long as for a head.
TLS_SECONDS_MAX: Final = 10.0
#: Pause of the listener when the process has no descriptor for a connection.
PAUSE_SECONDS: Final = 0.1

#: Linux, asm-generic/socket.h; the module `socket` does not have it.
_SO_ATTACH_FILTER: Final = 26
#: Drops segments with SYN and without ACK; the flags are in byte 13 of the header. Per instruction: code, jump if true,
#: jump if false, operand (Linux, Documentation/networking/filter.rst).
_WITHOUT_SYN: Final = (
    (0x30, 0, 0, 13),  # ldb [13]
    (0x54, 0, 0, 0x12),  # and #SYN|ACK
    (0x15, 0, 1, 0x02),  # jeq #SYN
    (0x06, 0, 0, 0),  # ret: drop
    (0x06, 0, 0, 0xFFFF_FFFF),  # ret: keep
)

MakeProtocol = Callable[..., asyncio.Protocol]


class Crowd:
    """A factory of protocols that also accepts the other connections waiting at the listener."""

    def __init__(self, listener: socket.socket, make: MakeProtocol, context: ssl.SSLContext | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._make = make
        self._context = context
        self._reserve = Reserve()
        self._looking = self._pausing = False
        #: The factory, with the arguments of the server's last call.
        self._prepared: MakeProtocol = make
        # The event loop itself refers to tasks only weakly.
        self._coming: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<Crowd coming={len(self._coming)}>"

    def __call__(self, **words: Any) -> asyncio.Protocol:
        make = self._prepared = partial(self._make, **words)
        if not self._looking:
            self._looking = True
            self._loop.call_soon(self._look)
        return make()

    @property
    def accepts_all(self) -> bool:
        """Whether `begin` accepts all connections, and no server of the event loop may."""
        return self._context is not None

    def begin(self, **words: Any) -> None:
        """Accept all connections from now on. `words`: the arguments with which a server would call the factory."""
        self._prepared = partial(self._make, **words)
        self._go_on()

    def close(self) -> None:
        """Accept no more; closes the listener."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()

    def _go_on(self) -> None:
        self._pausing = False
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener.fileno(), self._look)

    def _pause(self) -> None:
        """While connections wait the listener is readable: without a pause the loop would do nothing else."""
        if not self._pausing:
            self._pausing = True
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(PAUSE_SECONDS, self._go_on)

    @property
    def coming(self) -> bool:
        """Whether some accepted connections are not set up yet."""
        return bool(self._coming)

    async def let_in_the_last(self) -> None:
        """Accept all clients that have connected; afterwards the listener may be closed.

        Closing a listener resets the connections that wait there. So the kernel is told to drop new handshakes, and
        those that have begun may end first.
        """
        _drop_new_handshakes(self._listener)
        await asyncio.sleep(HANDSHAKE_SECONDS)
        while self._look():
            pass

    def _look(self) -> bool:
        """Accept some waiting connections. Returns whether there may be more."""
        self._looking = False
        for _ in range(TAKEN_PER_ROUND_MAX):
            try:
                link, _ = self._listener.accept()
            except OSError as error:  # mostly: none waits, or the listener is closed
                if self.accepts_all and error.errno in (errno.EMFILE, errno.ENFILE):
                    self._pause()
                return False
            if self.accepts_all and self._reserve.refuses(link.fileno()):
                link.close()
                self._pause()
                return False
            link.setblocking(False)
            task = self._loop.create_task(self._connect(link, self._prepared))
            self._coming.add(task)
            task.add_done_callback(self._coming.discard)
            if is_reserved(link.fileno()):
                return False  # it is turned away: without descriptors libuv would close all
        return True

    async def _connect(self, link: socket.socket, make: MakeProtocol) -> None:
        """From here on libuv closes the descriptor. `link` must not close it later: the number may be reused."""
        shaken_s_max = TLS_SECONDS_MAX if self.accepts_all else None
        with contextlib.suppress(OSError):  # the client has gone, or its handshake failed
            transport, _ = await self._loop.connect_accepted_socket(
                make, link, ssl=self._context, ssl_handshake_timeout=shaken_s_max
            )
            if not transport.is_closing():
                return  # its transport keeps `link`
        link.detach()


def _drop_new_handshakes(listener: socket.socket) -> None:
    """Make the kernel ignore clients that begin to connect; they retry a second later. Does nothing except on Linux."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _WITHOUT_SYN))
    program = struct.pack("HP", len(_WITHOUT_SYN), ctypes.addressof(code))
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox without filters
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
