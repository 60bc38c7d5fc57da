"""A service with old news: the real engine, with a map that never changes again and one node of one shard."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any, Self

from wallet_engine.domain.ids import pack_transaction_id
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.reads import Reader
from wallet_engine.routing.directory import Directory, open_directory
from wallet_engine.routing.model import PartitionMap, Shard
from wallet_engine.service.api import TransferAnswer, TransferCommand
from wallet_engine.service.wallet import ClusterWallet
from wallet_engine.telemetry.metrics import Metrics


class _OldNews(Directory):
    """Map and shards as they are now, for ever; journals as they come and go."""

    def __init__(self, directory: Directory, shard: str, address: str) -> None:
        super().__init__(directory.tree)
        self._map = directory.partition_map()
        self._shards = {shard: Shard(shard, (address,))}

    def partition_map(self) -> PartitionMap:
        return self._map

    def shards(self) -> dict[str, Shard]:
        return self._shards

    def watch_map(self, callback: Callable[[PartitionMap], object]) -> Callable[[], None]:
        return lambda: None

    def watch_shards(self, callback: Callable[[dict[str, Shard]], object]) -> Callable[[], None]:
        return lambda: None


class IsolatedService:
    """`with IsolatedService(…) as service:` runs it on a thread of its own."""

    def __init__(self, zookeeper: str, shard: str, address: str) -> None:
        """It knows the node at `address` as the primary of the shard, and no other node."""
        self._directory = open_directory(zookeeper, None)
        self._news = _OldNews(self._directory, shard, address)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start()).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._engine.close()).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._directory.close()

    async def _start(self) -> None:
        self._engine = Engine(self._news, Metrics())
        self._wallet = ClusterWallet(self._engine, Reader(self._engine))
        await self._engine.start()

    def _run(self, work: Any) -> "concurrent.futures.Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def pay(
        self, sender: str, receiver: str, cents: int, transaction_id: str
    ) -> "concurrent.futures.Future[TransferAnswer]":
        """The answer to come: a `TransferAnswer`, or `Outage`."""
        command = TransferCommand(sender, receiver, cents, "USD", pack_transaction_id(transaction_id))
        return self._run(self._wallet.transfer(command))

    def stop_waiting(self) -> None:
        """Give up unanswered requests now instead of later."""
        self._run(self._engine.close()).result(30)

    def receipted_seq(self, partition: int) -> int:
        """The seq of the newest entry, of any writer, for which it got a receipt."""

        async def look() -> int:
            return self._engine.tracker.latest_seq(partition)

        return int(self._run(look()).result(30))
