"""Accepts connections that arrive at the same time.

libuv accepts one connection in a round of the event loop. Under load a round takes 0.1 s, and of some hundred callers
that come together the last would wait for a minute. So after each that libuv accepts, this accepts the others.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from wallet_engine.telemetry.descriptors import is_reserved

#: Connections taken behind one in the same round.
TAKEN_PER_ROUND_MAX: Final = 63

MakeProtocol = Callable[..., asyncio.Protocol]


class Crowd:
    """Makes protocols, as their class does, and has those who wait at the listener connected, too."""

    def __init__(self, listener: socket.socket, make: MakeProtocol, context: ssl.SSLContext | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._make = make
        self._context = context
        self._looking = False
        #: As the server calls it.
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
    def coming(self) -> bool:
        """Whether some that were taken are not connected yet."""
        return bool(self._coming)

    def look_for_the_last(self) -> None:
        """Take all who wait, if anybody has come before: the listener is about to be closed."""
        while self._look():
            pass

    def _look(self) -> bool:
        """Take some of those who wait; whether there may be more."""
        self._looking = False
        for _ in range(TAKEN_PER_ROUND_MAX):
            try:
                link, _ = self._listener.accept()
            except OSError:
                return (
                    False  # nobody waits, or the listener is closed; what else there is, the loop meets, too
                )
            link.setblocking(False)
            task = self._loop.create_task(self._connect(link, self._prepared))
            self._coming.add(task)
            task.add_done_callback(self._coming.discard)
            if is_reserved(link.fileno()):
                return False  # it is turned away: were the last descriptors taken, libuv would hang up on all
        return True

    async def _connect(self, link: socket.socket, make: MakeProtocol) -> None:
        """From here on libuv closes the descriptor: `link` must not close what has its number by then."""
        with contextlib.suppress(OSError):  # it has gone, or its handshake failed
            transport, _ = await self._loop.connect_accepted_socket(make, link, ssl=self._context)
            if not transport.is_closing():
                return  # its transport keeps `link`
        link.detach()
