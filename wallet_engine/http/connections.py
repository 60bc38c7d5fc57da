"""The connections of one process: how many there may be, and how long each may wait."""

import asyncio
import math
from typing import Final, Protocol

from wallet_engine.telemetry.descriptors import Reserve

#: How often all connections are checked, and so how much later than its deadline one may be closed.
TICK_S: Final = 1.0
#: From the first byte of a head to the last.
HEAD_SECONDS_MAX: Final = 10.0
#: From the head to the end of a body that no handler reads.
BODY_SECONDS_MAX: Final = 35.0
#: How long an answer may wait for its client to read.
UNREAD_SECONDS_MAX: Final = 30.0
#: How long to read and drop what a client goes on sending after an error, so that it can read the answer.
LINGER_SECONDS_MAX: Final = 2.0

#: Maximum connections; the number of file descriptors is another limit.
CONNECTIONS_MAX: Final = 20_000

NEVER: Final = math.inf


class Waiting(Protocol):
    """A connection that waits for its client."""

    #: When it is closed if nothing happens before (loop time).
    deadline_s: float

    @property
    def silent(self) -> bool: ...

    def expired(self) -> None: ...

    def leave(self) -> None: ...


class Connections:
    """See the module. Create and use it on one event loop."""

    def __init__(self, connections_max: int = CONNECTIONS_MAX) -> None:
        self._loop = asyncio.get_running_loop()
        self._max = connections_max
        self._reserve = Reserve()
        self._all: set[Waiting] = set()
        self._ticking = False
        #: The process ends soon: each answer is the last one on its connection.
        self.leaving = False

    def __repr__(self) -> str:
        return f"<Connections {len(self._all)} of {self._max}>"

    def admit(self, connection: Waiting, descriptor: int | None) -> bool:
        """Whether there is room for one more connection, which has this file descriptor."""
        full = len(self._all) >= self._max
        if full or (descriptor is not None and self._reserve.refuses(descriptor)):
            return False
        self._all.add(connection)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(TICK_S, self._tick)
        return True

    def discard(self, connection: Waiting) -> None:
        self._all.discard(connection)

    def leave(self) -> None:
        """Make each client use another process from its next request on."""
        self.leaving = True
        for connection in self._all:
            connection.leave()

    @property
    def silent(self) -> bool:
        """Whether some connection has not sent its first request yet."""
        return any(connection.silent for connection in self._all)

    def _tick(self) -> None:
        now_s = self._loop.time()
        for connection in [each for each in self._all if each.deadline_s <= now_s]:
            connection.expired()
        self._ticking = bool(self._all)
        if self._ticking:
            self._loop.call_later(TICK_S, self._tick)
