"""The connection to one shard: finds its primary, keeps one connection to it, and reports when it is lost.

All waiting commands for the shard are flushed together, so one write carries the batches of many partitions.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import hiredis

from wallet_engine.domain.errors import WalletError, text_of
from wallet_engine.redis_store.connection import Callback, Connection, NotSent, Reply, Word
from wallet_engine.redis_store.node_clock import NodeClock
from wallet_engine.redis_store.topology import find_primary, no_primary
from wallet_engine.telemetry.logging import get_logger

RECONNECT_S_MIN: Final = 0.05
RECONNECT_S_MAX: Final = 1.0

log = get_logger(__name__)


class Lane:
    """This service's connection to one shard of the cluster."""

    def __init__(
        self,
        shard: str,
        nodes: tuple[str, ...],
        on_ready: Callable[["Lane"], None],
        on_lost: Callable[["Lane"], None],
    ) -> None:
        self.shard = shard
        self.nodes = nodes
        #: The clock of the connected node.
        self.clock = NodeClock()
        self._on_ready = on_ready
        self._on_down = on_lost
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        self._lost.set()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Lane {self.shard} {self._connection!r}>"

    @property
    def is_open(self) -> bool:
        return self._connection is not None and self._connection.is_open

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_connected(), name=f"lane-{self.shard}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            self._connection.close()

    def send(self, command: bytes, callback: Callback) -> None:
        """Raises `NotSent` when the shard has no usable connection now."""
        if self._connection is None:
            raise NotSent(f"shard {self.shard} is not connected")
        self._connection.send(command, callback)

    def flush(self) -> None:
        """Write what was sent now, so that the shard begins before this turn of the loop is over."""
        if self._connection is not None:
            self._connection.flush()

    async def call(self, *words: Word) -> Reply:
        """One plain command and its reply. Raises `NotSent`, `ConnectionLost` or `hiredis.ReplyError`."""
        if self._connection is None:
            raise NotSent(f"shard {self.shard} is not connected")
        return await self._connection.call(*words)

    async def look_at_clock(self) -> None:
        """Measure the node's clock again. Raises `NotSent`, `ConnectionLost` or `hiredis.ReplyError`."""
        if self._connection is None:
            raise NotSent(f"shard {self.shard} is not connected")
        await self.clock.measure(self._connection)

    async def refresh(self) -> None:
        """The connected node may no longer be the primary: check, and disconnect only if another node is."""
        connection = self._connection
        if connection is not None:
            primary = await asyncio.to_thread(find_primary, self.nodes)
            if primary is not None and primary.address != connection.address:
                connection.close()

    def _on_lost(self, connection: Connection) -> None:
        if connection is self._connection:
            self._connection = None
            self._lost.set()
            self._on_down(self)

    async def _keep_connected(self) -> None:
        delay_s = RECONNECT_S_MIN
        while True:
            await self._lost.wait()
            try:
                refused: list[str] = []
                primary = await asyncio.to_thread(find_primary, self.nodes, refused)
                if primary is None:
                    raise OSError(no_primary(refused))
                connection = await self._connect(primary.address)
            except Exception as error:
                # Whatever a node says, it is asked again: else the shard is lost for good.
                expected = isinstance(error, OSError | WalletError | hiredis.ReplyError)
                log.warning(
                    "shard unreachable",
                    shard=self.shard,
                    error=text_of(error),
                    retry_s=delay_s,
                    exc_info=None if expected else error,
                )
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RECONNECT_S_MAX)
                continue
            delay_s = RECONNECT_S_MIN
            self._lost.clear()
            self._connection = connection
            self._on_ready(self)

    async def _connect(self, address: str) -> Connection:
        """A connection whose node has told its clock; closed again if it has not."""
        connection = await Connection.open(address, self._on_lost)
        try:
            await self.clock.measure(connection)
            if not connection.is_open:
                raise OSError("closed at once")
        except BaseException:
            connection.close()
            raise
        return connection
