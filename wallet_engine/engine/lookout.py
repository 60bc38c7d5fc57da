"""Keeps the conditions of one engine: those its parts report, and those found by checks."""

import asyncio
from collections.abc import Iterable
from typing import Final

from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.clocks import Clocks
from wallet_engine.engine.cluster import ClusterView
from wallet_engine.engine.conditions import Condition, Conditions, Report, Trouble
from wallet_engine.engine.headroom import Headroom
from wallet_engine.engine.heartbeats import Heartbeats
from wallet_engine.engine.observer import Observer

#: After this time a service is ready even if it has not heard from every partition.
START_S_MAX: Final = 10.0
#: If an entry waits longer for its receipts, the journal does not keep up.
RECEIPT_S_WARN: Final = 5.0
#: Conditions of a partition that stop only new work; begun work can still end.
_OF_NEW_WORK: Final = (Condition.FULL, Condition.UNSETTLED)


class Lookout:
    """`troubles` is empty while every partition takes operations; an applied batch reads nothing else."""

    def __init__(self, cluster: ClusterView, headroom: Headroom, clocks: Clocks, observer: Observer) -> None:
        self.conditions = Conditions()
        self.troubles: dict[int, Trouble] = self.conditions.of_partition
        self._cluster = cluster
        self._headroom = headroom
        self._clocks = clocks
        self._heartbeats = Heartbeats(cluster.tracker)
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        #: partition -> seq of its newest entry whose receipts are late
        self._late: dict[int, int] = {}
        self._start_until_s = 0.0

    def __repr__(self) -> str:
        return f"<Lookout {self.conditions!r} late={len(self._late)}>"

    def started(self) -> None:
        """Call it when the partitions are known and each is noted as `starting`."""
        self._start_until_s = self._loop.time() + START_S_MAX

    def note(self, accumulator: Accumulator, condition: Condition, why: str) -> None:
        """The partition takes no operations now."""
        self.conditions.note(accumulator.partition, condition, why)
        self._observer.partition(accumulator.partition, condition.value)

    def passed(self, accumulator: Accumulator) -> None:
        """The partition has taken operations; this does not end `NO_RECEIPT`, which is about the journal."""
        trouble = self.troubles.get(accumulator.partition)
        if trouble is not None and trouble.condition is not Condition.NO_RECEIPT:
            self.well(accumulator)

    def well(self, accumulator: Accumulator) -> None:
        """Nothing is wrong with the partition any more."""
        self.conditions.clear(accumulator.partition)
        self._late.pop(accumulator.partition, None)
        self._observer.partition(accumulator.partition, "live")

    def look(self, awaiting: Iterable[Batch], now_s: float) -> None:
        """Update the conditions.

        `awaiting`: the batches that wait for receipts, in the order of the replies of Redis.
        """
        starting = sum(trouble.condition is Condition.STARTING for trouble in self.troubles.values())
        if starting and now_s < self._start_until_s:
            self.conditions.note_service(Condition.STARTING, f"{starting} partitions were not yet heard of")
        else:
            self.conditions.clear_service(Condition.STARTING)
        self._look_for_receipts(awaiting, now_s)
        self._heartbeats.beat(now_s)

    def _look_for_receipts(self, awaiting: Iterable[Batch], now_s: float) -> None:
        """Late receipts are a condition until the late entry, or a newer one, is known to be durable."""
        tracker, accumulators = self._cluster.tracker, self._cluster.accumulators
        for partition, seq in list(self._late.items()):
            if tracker.latest_seq(partition) >= seq:
                self.well(accumulators[partition])
        for batch in awaiting:
            if now_s - batch.answered_s < RECEIPT_S_WARN:
                break
            accumulator = accumulators[batch.partition]
            if accumulator.held_since_s is None:
                self._late[batch.partition] = max(batch.seq, self._late.get(batch.partition, 0))
                what = f"entry {batch.seq} of partition {batch.partition}"
                self.note(
                    accumulator, Condition.NO_RECEIPT, f"{what} is not on {tracker.quorum} journal copies"
                )

    def report(self) -> tuple[int, list[Report]]:
        """How many partitions take transfers now, and each condition that prevents one from it."""
        conditions, cluster = self.conditions, self._cluster
        needed, silent = cluster.tracker.quorum, sorted(self._heartbeats.silent)
        answering = cluster.journals_connected - len(silent)
        if answering < needed:
            what = f"{answering} of {needed} journal copies reachable"
            what += f", and {', '.join(silent)} connected and silent" if silent else ""
            conditions.note_service(Condition.NO_QUORUM, what)
        else:
            conditions.clear_service(Condition.NO_QUORUM)
        if apart := self._clocks.apart():
            conditions.note_service(Condition.SKEWED, apart)
        else:
            conditions.clear_service(Condition.SKEWED)
        self._note_standstill()
        for shard, lane in cluster.lanes.items():
            short, closed = shard in self._headroom.short, not lane.is_open
            said = self._headroom.refusing.get(shard, "")
            self._set_shard(shard, Condition.REFUSED, bool(said), f"shard {shard} refuses writes: {said}")
            self._set_shard(shard, Condition.UNREACHABLE, closed, f"shard {shard} is not reachable")
            self._set_shard(shard, Condition.MEMORY, short, f"the memory of shard {shard} is nearly full")
        self._note_closed()
        shards = {accumulator.partition: accumulator.shard for accumulator in cluster.accumulators}
        return len(shards) - len(conditions.stopped(shards)), list(conditions.reports(shards))

    def _note_standstill(self) -> None:
        remember_since_s = max((a.remembers_since_s for a in self._cluster.accumulators), default=0.0)
        unread_s = remember_since_s - self._loop.time()
        if unread_s > 0:
            what = f"it missed dedupe windows, and sends nothing for {unread_s:.0f} s"
            self.conditions.note_service(Condition.STOOD_STILL, what)
        else:
            self.conditions.clear_service(Condition.STOOD_STILL)

    def _note_closed(self) -> None:
        """Note partitions that take no new work, unless they have another condition.

        Passing batches do not end it.
        """
        accumulators, closed = self._cluster.accumulators, self._headroom.closed
        for partition, trouble in list(self.troubles.items()):
            if trouble.condition in _OF_NEW_WORK and trouble.condition not in closed.get(partition, ()):
                self.well(accumulators[partition])
        for partition, reasons in closed.items():
            for condition, outage in reasons.items():
                if partition not in self.troubles:
                    self.note(accumulators[partition], condition, outage.detail)

    def _set_shard(self, shard: str, condition: Condition, holds: bool, detail: str) -> None:
        if holds:
            self.conditions.note_shard(shard, condition, detail)
        else:
            self.conditions.clear_shard(shard, condition)
