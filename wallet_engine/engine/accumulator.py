"""The queue of one partition: natural batching, decided without I/O.

What arrives while a batch is out waits and goes together with the next. A few operations wait until the batch before
them is durable, not only until Redis has answered, so that under the load of many small callers a script call serves
several of them; enough operations for a good batch go at once, so that large callers keep every process busy.
"""

from typing import Final

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.limits import SCRIPT_OPERATIONS_MAX
from wallet_engine.domain.operation import Words
from wallet_engine.engine.batch import Batch, Pending
from wallet_engine.redis_store.keys import PartitionKeys

#: Operations of one partition waiting to be sent.
QUEUE_OPERATIONS_MAX: Final = 20_000
#: So many operations are a good batch: they go while batches before them wait for the journal.
EARLY_OPERATIONS_MIN: Final = 90
#: Batches of one partition waiting for the journal.
UNDURABLE_BATCHES_MAX: Final = 8
#: How long operations wait for a partition that cannot take them now before they are refused.
HOLD_MS_MAX: Final = 2_000


class Accumulator:
    """State of one partition within this service."""

    __slots__ = (
        "_currencies",
        "_issued_ms",
        "_items",
        "_operations",
        "batch",
        "behind",
        "epoch",
        "held_since_ms",
        "held_why",
        "keys",
        "partition",
        "probing",
        "scheduled",
        "shard",
        "undurable",
        "window",
    )

    def __init__(self, partition: int, keys: PartitionKeys, shard: str, epoch: int) -> None:
        self.partition = partition
        self.keys = keys
        self.shard = shard
        self.epoch = epoch
        #: Dedupe window in force, learnt from the script.
        self.window = 1
        self._operations: list[Words] = []
        self._items: list[Pending] = []
        #: When the oldest of them was decided upon, or before.
        self._issued_ms = 0
        self._currencies: set[str] = set()
        #: The batch that Redis has not answered yet.
        self.batch: Batch | None = None
        #: Batches that Redis has answered and the journal has not.
        self.undurable = 0
        #: Replies in a row that were behind the journal.
        self.behind = 0
        #: A probe is out, which holds back batches like one.
        self.probing = False
        self.scheduled = False
        self.held_since_ms: int | None = None
        self.held_why = ""

    def __repr__(self) -> str:
        held = f" held={self.held_why}" if self.held_since_ms is not None else ""
        in_flight = int(self.batch is not None)
        return (
            f"<Accumulator p={self.partition} pending={len(self._operations)} in_flight={in_flight} "
            f"undurable={self.undurable}{held}>"
        )

    @property
    def may_send(self) -> bool:
        """Whether the next batch may go now."""
        pending = len(self._operations)
        if not pending or self.batch is not None or self.probing:
            return False
        return not self.undurable or (
            pending >= EARLY_OPERATIONS_MIN and self.undurable < UNDURABLE_BATCHES_MAX
        )

    @property
    def wants_turn(self) -> bool:
        """Whether it may send and has no turn yet, or may have an earlier one now: it has just become a good batch."""
        return (not self.scheduled or len(self._operations) == EARLY_OPERATIONS_MIN) and self.may_send

    @property
    def pending(self) -> int:
        return len(self._operations)

    def add(self, operation: Words, item: Pending, issued_ms: int) -> bool:
        """Queue one operation; whether that calls for a turn. Raises `Outage`, and then the operation is nowhere."""
        if self.held_since_ms is not None and issued_ms - self.held_since_ms > HOLD_MS_MAX:
            raise Outage(
                "partition_unavailable", f"partition {self.partition} is not served now ({self.held_why})"
            )
        operations = self._operations
        if len(operations) >= QUEUE_OPERATIONS_MAX:
            raise Outage("overloaded", f"partition {self.partition} has {len(operations)} operations waiting")
        if not operations or issued_ms < self._issued_ms:
            self._issued_ms = issued_ms
        operations.append(operation)
        self._items.append(item)
        return self.batch is None and self.wants_turn

    def take(self) -> Batch | None:
        """The next batch to send, or None when there is nothing to send or one is out."""
        if not self.may_send:
            return None
        operations, items, most = self._operations, self._items, SCRIPT_OPERATIONS_MAX
        self._operations, self._items = operations[most:], items[most:]
        if self._operations:
            operations, items = operations[:most], items[:most]
        self.batch = batch = Batch(self.partition, operations, items, self._issued_ms)
        return batch

    def put_back(self, batch: Batch) -> None:
        """A batch that certainly did not run: its operations go to the head of the queue."""
        self.queue_first(batch)
        self.batch = None

    def queue_first(self, batch: Batch) -> None:
        """Operations that were taken out of a batch: to the head of the queue."""
        self._issued_ms = min(batch.issued_ms, self._issued_ms) if self._operations else batch.issued_ms
        self._operations = batch.operations + self._operations
        self._items = batch.items + self._items

    def hold(self, why: str, now_ms: int) -> None:
        """The partition cannot take operations now; remember since when."""
        if self.held_since_ms is None:
            self.held_since_ms = now_ms
        self.held_why = why

    def release(self) -> None:
        self.held_since_ms = None

    def drop_all(self) -> list[Pending]:
        """Empty the queue; the caller tells the items why."""
        items, self._operations, self._items = self._items, [], []
        return items

    def learn_currencies(self, listed: str) -> None:
        """The partition's currencies, as a script names them."""
        self._currencies.update(filter(None, listed.split(",")))

    @property
    def currencies(self) -> list[str]:
        return sorted(self._currencies)
