"""What this service knows of the cluster: configuration, map, connections to shards and journal copies."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.errors import text_of
from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.lane import Lane
from wallet_engine.engine.refusals import ScriptRefusal
from wallet_engine.journal.link_client import LinkClient
from wallet_engine.journal.receipts_tracker import ReceiptTracker
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.refusals import Meaning, Refusal, refusal_of
from wallet_engine.routing.directory import Directory, on_loop
from wallet_engine.routing.homes import Homes
from wallet_engine.routing.model import ClusterConfig, JournalInfo, Members, PartitionMap, Shard
from wallet_engine.routing.slots import tag_of
from wallet_engine.telemetry.logging import get_logger

#: Minimum time between two reports of a shard to the journal copies for recovery.
ASK_RECOVERY_S_MIN: Final = 0.5
#: Minimum time between two checks of which node of a shard is its primary.
LOOK_S_MIN: Final = 0.1

log = get_logger(__name__)


class ClusterView:
    """Watches keep it current.

    `on_change` is called after a change that held operations may wait for, `on_lost` with a shard when its
    connection broke.
    """

    config: ClusterConfig
    homes: Homes
    map: PartitionMap

    def __init__(
        self, directory: Directory, on_change: Callable[[], None], on_lost: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._on_change = on_change
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self.accumulators: list[Accumulator] = []
        self.lanes: dict[str, Lane] = {}
        self.tracker = ReceiptTracker(quorum=1)
        self._clients: dict[str, LinkClient] = {}
        #: Journal copies whose receipts count. Receipts of others do not count, even if they are registered.
        self._members: frozenset[str] = frozenset()
        self._journals: dict[str, JournalInfo] = {}
        self._unwatch: list[Callable[[], None]] = []
        self._asked_s: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._refreshing: set[str] = set()

    def __repr__(self) -> str:
        open_lanes = sum(lane.is_open for lane in self.lanes.values())
        lanes = f"{open_lanes}/{len(self.lanes)}"
        return f"<ClusterView map={self.map.version} lanes={lanes} journals={len(self._clients)}>"

    async def start(self) -> None:
        """Read everything once, then follow changes. Raises `ConfigError` when the cluster is not initialised."""
        directory = self._directory
        self.config = await asyncio.to_thread(directory.config)
        self.homes = Homes(self.config.partitions)
        self.tracker.quorum = self.config.journal_quorum
        self.map = await asyncio.to_thread(directory.partition_map)
        shards = await asyncio.to_thread(directory.readable_shards)
        for partition, entry in enumerate(self.map.partitions):
            keys = PartitionKeys(tag_of(partition, self.config.partitions))
            self.accumulators.append(Accumulator(partition, keys, entry.shard, entry.epoch))
        for shard in shards.values():
            self._add_lane(shard.name, shard.nodes)
        watch_map = on_loop(self._loop, self._map_changed)
        watch_journals = on_loop(self._loop, self._journals_changed)
        watch_members = on_loop(self._loop, self._members_changed)
        watch_shards = on_loop(self._loop, self._shards_changed)
        self._unwatch.append(await asyncio.to_thread(directory.watch_shards, watch_shards))
        self._unwatch.append(await asyncio.to_thread(directory.watch_map, watch_map))
        self._unwatch.append(await asyncio.to_thread(directory.watch_members, watch_members))
        self._unwatch.append(await asyncio.to_thread(directory.watch_journals, watch_journals))

    async def close(self) -> None:
        for unwatch in self._unwatch:
            unwatch()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(lane.close() for lane in self.lanes.values()))
        await asyncio.gather(*(client.close() for client in self._clients.values()))

    @property
    def journals_connected(self) -> int:
        return self.tracker.copies

    def refresh_map(self) -> None:
        """The map here is outdated: read it now instead of waiting for the watch."""
        self._once("map", self._read_map())

    def heed_epoch(self, shard: str) -> None:
        """A node refuses the map's epoch: there is a newer map, or it has not noticed its demotion."""
        self.refresh_map()
        self.refresh_shard(shard)

    def refresh_shard(self, shard: str) -> None:
        """A node of the shard may no longer be its primary: find out which node is."""
        lane = self.lanes.get(shard)
        if lane is not None:
            self._once(shard, self._look_again(lane))

    async def _look_again(self, lane: Lane) -> None:
        await lane.refresh()
        await asyncio.sleep(LOOK_S_MIN)

    def heed(self, shard: str, error: str) -> Refusal:
        """Classify an error reply of a shard's node, and react to it."""
        refusal = refusal_of(error)
        self.heed_refusal(shard, refusal)
        return refusal

    def heed_refusal(self, shard: str, refusal: Refusal) -> None:
        """React to an error: find the serving node, or ask for recovery."""
        if refusal.meaning is Meaning.ELSEWHERE:
            self.heed_epoch(shard)
        elif refusal.meaning is Meaning.RECOVER:
            self.refresh_shard(
                shard
            )  # a replica also answers this to a call without keys, and does not name the primary
            self.ask_recovery(shard, "script cache is empty")

    def heed_script(self, accumulator: Accumulator, refusal: ScriptRefusal) -> bool:
        """Learn from a script's refusal and react to it.

        Returns whether the same call can be sent again at once.
        """
        if refusal.code == "WINDOW":
            accumulator.learn_window(int(refusal.shown), self._loop.time())
            return True
        if refusal.code == "CURRENCIES":
            accumulator.learn_currencies(refusal.shown)
            return True
        if refusal.code == "LIMITS":
            accumulator.limits = True
            return True
        if refusal.code == "EPOCH":
            self.heed_epoch(accumulator.shard)
        elif refusal.unrecovered:
            self.ask_recovery(accumulator.shard, f"partition {accumulator.partition}: {refusal.why}")
        return False

    def ask_recovery(self, shard: str, reason: str) -> None:
        """Tell the journal copies that a shard cannot serve until it was compared with the journal."""
        now_s = self._loop.time()
        if now_s - self._asked_s.get(shard, 0.0) < ASK_RECOVERY_S_MIN:
            return
        self._asked_s[shard] = now_s
        log.warning("asking for recovery", shard=shard, reason=reason)
        self.tracker.request_recovery(shard, reason)

    def _once(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        if name in self._refreshing:
            work.close()
            return
        self._refreshing.add(name)
        task = self._loop.create_task(work)
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._refreshing.discard(name)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                log.warning("refresh failed", what=name, error=text_of(error))

        task.add_done_callback(done)

    async def _read_map(self) -> None:
        self._map_changed(await asyncio.to_thread(self._directory.partition_map))
        await asyncio.sleep(0.05)  # limits how often a stale epoch causes a read

    def _map_changed(self, new: PartitionMap) -> None:
        if not new.supersedes(self.map):
            return
        self.map = new
        for accumulator, entry in zip(self.accumulators, new.partitions, strict=True):
            accumulator.shard, accumulator.epoch = entry.shard, entry.epoch
        self._on_change()

    def _shards_changed(self, shards: dict[str, Shard]) -> None:
        """Follow shards that are added, removed or change nodes.

        A lane opens before partitions move to its shard.
        """
        for shard in shards.values():
            self._add_lane(shard.name, shard.nodes)
        mapped = {entry.shard for entry in self.map.partitions}
        for name in self.lanes.keys() - shards.keys() - mapped:
            self._once(f"close lane {name}", self.lanes.pop(name).close())

    def _add_lane(self, name: str, nodes: tuple[str, ...]) -> None:
        if name in self.lanes:
            self.lanes[name].nodes = nodes
        else:
            lane = Lane(name, nodes, lambda _: self._on_change(), lambda lost: self._on_lost(lost.shard))
            self.lanes[name] = lane
            lane.start()

    def _members_changed(self, members: Members) -> None:
        """The list of counted copies changed.

        If the list is lost, the old one stays valid until a restore.
        """
        if members.version >= 0:
            self._members = frozenset(members.copies)
            self._journals_changed(self._journals)

    def _journals_changed(self, journals: dict[str, JournalInfo]) -> None:
        """Follow counted copies that are added, removed or change their address.

        A copy that sends receipts stays connected even if it is not registered: a loss of data in ZooKeeper
        must not stop payments, and the epochs that a copy confirms decide whether it still counts.
        """
        self._journals = journals
        counted = {name: info for name, info in journals.items() if name in self._members}
        for journal_id, client in list(self._clients.items()):
            client.listed = journal_id in counted
            if journal_id not in self._members or not (client.listed or client.connected):
                del self._clients[journal_id]
                self._once(f"close {journal_id}", client.close())
        for journal_id, info in counted.items():
            address = split_address(info.address)
            client = self._clients.setdefault(journal_id, LinkClient(journal_id, address, self.tracker))
            client.address, client.tls = address, info.tls
            client.start()
