"""The keepers of a journal copy: one for each shard, started and ended as shards are added and removed."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from wallet_engine.journal.bounds import Bounds
from wallet_engine.journal.link_wire import NewEntry
from wallet_engine.recovery.keeper import ShardKeeper
from wallet_engine.routing.model import PartitionMap, Shard


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
        #: The running task of each shard. None of them returns.
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
            self._keepers[shard] = keeper = self._make(shard)
            if known is not None:
                keeper.map_changed(known)
            self.tasks[shard] = asyncio.create_task(keeper.run(), name=f"keeper-{shard}")
        mapped = set() if known is None else {entry.shard for entry in known.partitions}
        for shard in sorted(self._keepers.keys() - shards.keys() - mapped):
            del self._keepers[shard]
            self.tasks.pop(shard).cancel()

    def map_changed(self, partition_map: PartitionMap) -> None:
        self._map = partition_map
        self._bounded(bounds_of(partition_map, self._keepers))
        for keeper in self._keepers.values():
            keeper.map_changed(partition_map)
