"""The keepers of a journal copy: one for each shard, started and ended as shards are added and removed."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from wallet_engine.domain.errors import WalletError
from wallet_engine.journal.bounds import Bounds
from wallet_engine.journal.link_wire import NewEntry
from wallet_engine.recovery.keeper import ShardKeeper
from wallet_engine.routing.model import PartitionMap, Shard
from wallet_engine.telemetry.logging import get_logger

#: Pause before a shard is served again after a bug.
AGAIN_S: Final = 1.0

log = get_logger(__name__)


def bounds_of(partition_map: PartitionMap, shards: Iterable[str]) -> Bounds:
    """Values that callers of the copy may name: the epochs of the map, and shards that are known or in the map."""
    entries = partition_map.partitions
    return Bounds([entry.epoch for entry in entries], {*shards, *(entry.shard for entry in entries)})


class Keepers:
    """Forwards events of the link and the directory to all keepers. `bounded` is called with new bounds."""

    def __init__(self, make: Callable[[str], ShardKeeper], bounded: Callable[[Bounds], None]) -> None:
        self._make = make
        self._bounded = bounded
        self._keepers: dict[str, ShardKeeper] = {}
        self._map: PartitionMap | None = None
        #: The running task of each shard, unless it failed a moment ago. None of them returns.
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<Keepers {', '.join(sorted(self._keepers))}>"

    def check(self, shard: str) -> None:
        """Called when a process says that this shard needs recovery."""
        if shard in self._keepers:
            self._keepers[shard].check()

    def written(self, partitions: Sequence[int]) -> None:
        for keeper in self._keepers.values():
            keeper.written(partitions)

    def new(self, entries: Sequence[NewEntry]) -> None:
        for keeper in self._keepers.values():
            keeper.new(entries)

    def promised(self, partitions: list[int]) -> None:
        for keeper in self._keepers.values():
            keeper.promised(partitions)

    def shards_changed(self, shards: dict[str, Shard]) -> None:
        known = self._map
        if known is not None:
            self._bounded(bounds_of(known, shards))
        for shard in sorted(shards.keys() - self._keepers.keys()):
            self._begin(shard)
        mapped = set() if known is None else {entry.shard for entry in known.partitions}
        for shard in sorted(self._keepers.keys() - shards.keys() - mapped):
            del self._keepers[shard]
            if (task := self.tasks.pop(shard, None)) is not None:
                task.cancel()

    def _begin(self, shard: str) -> None:
        self._keepers[shard] = keeper = self._make(shard)
        if self._map is not None:
            keeper.map_changed(self._map)
        self.tasks[shard] = asyncio.create_task(keeper.run(), name=f"keeper-{shard}")

    def look(self) -> None:
        """Begin anew with shards whose task has ended by a bug: the other shards go on. Raises any other error."""
        for shard, task in list(self.tasks.items()):
            if not task.done():
                continue
            error = task.exception()
            if error is None or isinstance(error, WalletError | OSError):
                task.result()
            log.critical("a shard is not served for a bug", shard=shard, again_in_s=AGAIN_S, exc_info=error)
            del self.tasks[shard]
            asyncio.get_running_loop().call_later(AGAIN_S, self._again, shard)

    def _again(self, shard: str) -> None:
        if shard in self._keepers and shard not in self.tasks:
            self._begin(shard)

    def map_changed(self, partition_map: PartitionMap) -> None:
        self._map = partition_map
        self._bounded(bounds_of(partition_map, self._keepers))
        for keeper in self._keepers.values():
            keeper.map_changed(partition_map)
