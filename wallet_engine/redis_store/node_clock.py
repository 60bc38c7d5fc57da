"""The time on the clock of a Redis node, computed from this process' own monotonic clock."""

import asyncio
from typing import Final

from wallet_engine.redis_store.connection import Connection

_MS: Final = 1000


class NodeClock:
    """Measured from time to time; accurate to a round trip until the clock steps."""

    __slots__ = ("_offset_ms",)

    def __init__(self) -> None:
        self._offset_ms = 0.0

    def __repr__(self) -> str:
        return f"<NodeClock {self._offset_ms:+.0f} ms>"

    def ms_at(self, time_s: float) -> int:
        """Unix milliseconds that the node's clock shows at this time of the event loop."""
        return int(time_s * _MS + self._offset_ms)

    def shows(self, node_ms: float, time_s: float) -> None:
        """Note that the node's clock showed `node_ms` at `time_s` of the event loop."""
        self._offset_ms = node_ms - time_s * _MS

    async def measure(self, connection: Connection) -> None:
        """Ask the node. Raises what `Connection.call` raises."""
        loop = asyncio.get_running_loop()
        before_s = loop.time()
        seconds, micros = await connection.call("TIME")
        self.shows(int(seconds) * _MS + int(micros) / _MS, (before_s + loop.time()) / 2)
