"""The script door: calls the apply script in Redis directly, and does not wait for the journal.

Debits and credits of a partition are collected until a call is full, as the engine does under the heaviest load. Each
call is for one partition. This measures the cost of an operation in a node. Credits are made before their debits are on
disk, which breaks no promise, since no caller gets an answer.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from bench.cluster import Cluster
from bench.doors.base import Load
from bench.doors.engine import Row, number_text, rows_of
from bench.pacing import ClosedLoop
from bench.recorder import Recorder
from bench.ring import Request, Ring, chunks, declined_of
from bench.workload import CURRENCY
from wallet_engine.domain.limits import ISSUED_AGE_MS_MAX
from wallet_engine.domain.operation import Operation, Words
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.engine.batch import Batch
from wallet_engine.redis_store.apply_call import apply_command
from wallet_engine.redis_store.connection import Connection
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.scripts import load_script
from wallet_engine.redis_store.topology import find_primary
from wallet_engine.routing.slots import partition_of, tag_of

STOP_S_MAX: Final = 30.0
#: Maximum operations of one call, besides settles.
BATCH_MAX: Final = 1_000
_FEED: Final = 64
_APPLY_SHA: Final = load_script("apply").sha


class _Entry:
    """A journal entry with debits, and the number of its credits that are not made yet."""

    __slots__ = ("partition", "remaining", "seq")

    def __init__(self, partition: int, seq: int, remaining: int) -> None:
        self.partition = partition
        self.seq = seq
        self.remaining = remaining


#: An operation in a call: its kind, the row of a debit, the entry of a credit.
Item = tuple[str, Row | None, _Entry | None]


class _Queue:
    """Operations of one partition that wait for a call."""

    __slots__ = ("items", "operations", "settles")

    def __init__(self) -> None:
        self.operations: list[Words] = []
        self.items: list[Item] = []
        self.settles: list[int] = []


class ScriptDoor:
    """Implements `Door`. `callers`: the number of calls in flight at a time."""

    own_role = "load"

    def __init__(
        self, cluster: Cluster, recorder: Recorder, ring: Ring[list[Row]], batch: int, callers: int
    ) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._batch = batch
        self._callers = callers
        self._transfers = self._endless(ring)
        self._connections: dict[str, Connection] = {}
        self._queues: list[_Queue] = []
        self._keys: list[PartitionKeys] = []
        self._full: deque[int] = deque()
        self._in_flight = 0
        self._stopping = False
        self._idle = asyncio.Event()
        self._operations = 0
        self._calls = 0

    @classmethod
    def make(cls, load: Load) -> "ScriptDoor":
        if not isinstance(load.pacing, ClosedLoop):
            raise ValueError("script calls are sent when they are full, not at a rate: choose another door")
        if load.repeats:
            raise ValueError("the script door sends nothing twice: choose another door for `repeats`")
        if load.batch > BATCH_MAX:
            raise ValueError(f"one script call takes at most {BATCH_MAX} operations")
        requests = [
            Request(rows_of(list(part)), len(part), declined_of(part)) for part in chunks(load.pairs, _FEED)
        ]
        return cls(load.cluster, load.recorder, Ring(requests, repeats=False), load.batch, load.callers)

    async def start(self) -> None:
        directory = await asyncio.to_thread(self._cluster.open_directory)
        try:
            self._config = await asyncio.to_thread(directory.config)
            self._map = await asyncio.to_thread(directory.partition_map)
            shards = await asyncio.to_thread(directory.shards)
        finally:
            await asyncio.to_thread(directory.close)
        for shard in shards.values():
            primary = await asyncio.to_thread(find_primary, shard.nodes)
            if primary is None:
                raise ValueError(f"shard {shard.name} has no primary")
            self._connections[shard.name] = await Connection.open(primary.address, self._lost)
        partitions = self._config.partitions
        self._queues = [_Queue() for _ in range(partitions)]
        self._keys = [PartitionKeys(tag_of(partition, partitions)) for partition in range(partitions)]
        self._pump()

    async def stop(self) -> None:
        self._stopping = True
        self._pump()
        try:
            await asyncio.wait_for(self._idle.wait(), STOP_S_MAX)
        except TimeoutError:
            self._recorder.surprised(f"{self._in_flight} script calls were not answered")
        for connection in self._connections.values():
            connection.close()

    async def figures(self) -> dict[str, float]:
        return {"operations": self._operations, "script_calls": self._calls}

    # Out -------------------------------------------------------------------------------------------------

    @staticmethod
    def _endless(ring: Ring[list[Row]]) -> Iterator[tuple[str, Row]]:
        while True:
            drawn = ring.next()
            if drawn is not None:
                request, number = drawn
                head = number_text(number)
                for row in request.payload:
                    yield head, row

    def _pump(self) -> None:
        """Keep `callers` calls in flight. After `stop`, send also calls that are not full."""
        while self._in_flight < self._callers:
            if self._full:
                self._send(self._full.popleft())
            elif self._stopping:
                left = [p for p, queue in enumerate(self._queues) if queue.operations or queue.settles]
                if not left:
                    break
                self._send(left[0])
            else:
                self._draw()
        if self._stopping and not self._in_flight:
            self._idle.set()

    def _draw(self) -> None:
        """Queue the first operation of the next transfer."""
        head, row = next(self._transfers)
        sender, receiver, minor, tail = row
        partitions = self._config.partitions
        p = partition_of(sender, partitions)
        kind = "t" if p == partition_of(receiver, partitions) else "d"
        operation = Operation(kind, f"{head}{tail}", sender, receiver, int(minor), CURRENCY)
        self._queue(p, operation, (kind, row, None))

    def _queue(self, partition: int, operation: Words, item: Item) -> None:
        queue = self._queues[partition]
        queue.operations.append(operation)
        queue.items.append(item)
        if len(queue.operations) == self._batch:
            self._full.append(partition)

    def _send(self, partition: int) -> None:
        queue, size = self._queues[partition], self._batch
        operations, queue.operations = queue.operations[:size], queue.operations[size:]
        items, queue.items = queue.items[:size], queue.items[size:]
        for seq in queue.settles:
            operations.append(Operation("s", str(seq), "-", "-", 0, "-"))
            items.append(("s", None, None))
        queue.settles = []
        batch = Batch(partition, operations, [], 0.0)
        entry = self._map.partitions[partition]
        keys, retention_ms = self._keys[partition], self._config.retention_ms
        issued_ms = time.time_ns() // 1_000_000
        command = apply_command(
            _APPLY_SHA,
            [batch.part(keys, entry.epoch, issued_ms, 1, (CURRENCY,))],
            window_ms=retention_ms,
            stream_entries_max=self._config.stream_entries_max,
            issued_age_ms_max=ISSUED_AGE_MS_MAX,
        )
        self._in_flight += 1
        answered = partial(self._answered, batch, items, time.perf_counter())
        self._connections[entry.shard].send(command, answered)

    # In --------------------------------------------------------------------------------------------------

    def _answered(self, batch: Batch, items: list[Item], sent_s: float, reply: Any) -> None:
        self._in_flight -= 1
        answer = reply[0] if isinstance(reply, list) else reply
        if not isinstance(answer, bytes):
            self._recorder.surprised(f"partition {batch.partition}: {reply!r}")
            self._stopping = True
        else:
            self._calls += 1
            self._operations += len(items)
            batch.accept(answer)
            ended, declined = self._carry_on(batch, items)
            self._recorder.answered(time.perf_counter() - sent_s, ended, declined)
        self._pump()

    def _carry_on(self, batch: Batch, items: list[Item]) -> tuple[int, int]:
        """Queue the credits for a call's debits, and the settles for its credits.

        Returns (transfers that ended, those of them that were declined).
        """
        ended = declined = 0
        entry = _Entry(batch.partition, batch.seq, 0)
        partitions = self._config.partitions
        for idx, ((kind, row, credited), outcome) in enumerate(zip(items, batch.outcomes, strict=True)):
            if outcome == Outcome.INSUFFICIENT_FUNDS and kind in "td":
                declined += 1
                ended += 1
            elif outcome != Outcome.APPLIED:
                self._recorder.surprised(f"operation {kind} ended as {outcome!r}")
            elif kind == "t":
                ended += 1
            elif kind == "d" and row is not None:
                entry.remaining += 1
                credit = ("c", batch.entry, row[1], str(idx), int(row[2]), CURRENCY)
                self._queue(partition_of(row[1], partitions), Operation(*credit), ("c", None, entry))
            elif kind == "c" and credited is not None:
                ended += 1
                credited.remaining -= 1
                if not credited.remaining:
                    self._queues[credited.partition].settles.append(credited.seq)
        return ended, declined

    def _lost(self, connection: Connection) -> None:
        if not self._stopping:
            self._recorder.surprised(f"{connection!r} was lost")
