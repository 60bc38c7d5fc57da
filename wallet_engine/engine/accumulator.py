"""The queue of one partition: natural batching, decided without I/O.

Operations that arrive while a batch is out wait and go with the next. A small batch waits until the previous
batch is durable, not only until Redis has answered it: so with many small callers one script call serves
several of them. A batch with enough operations goes at once: so large callers keep every process busy.
"""

from math import inf
from typing import Final

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.kinds import HEAVY, weight_of
from wallet_engine.domain.limits import SCRIPT_FLAGS_MAX, SCRIPT_OPERATIONS_MAX
from wallet_engine.domain.operation import Words
from wallet_engine.engine.batch import Batch, Pending
from wallet_engine.redis_store.keys import PartitionKeys

#: Operations of one partition waiting to be sent.
QUEUE_OPERATIONS_MAX: Final = 20_000
#: This many operations are a good batch: it goes while earlier batches still wait for the journal.
EARLY_OPERATIONS_MIN: Final = 90
#: Batches of one partition waiting for the journal.
UNDURABLE_BATCHES_MAX: Final = 8
#: How long operations wait for a partition that cannot take them now; then they are refused.
HOLD_MS_MAX: Final = 2_000
#: Who has missed a window stood still, and may find requests from before that nobody has read. This is more time than
#: it takes to read them, and than a batch waits for its turn. What is issued meanwhile counts as issued before.
UNREAD_S_MAX: Final = 20.0


class Accumulator:
    """State of one partition within this service."""

    __slots__ = (
        "_currencies",
        "_heavy",
        "_issued_s",
        "_items",
        "_known_since_s",
        "_operations",
        "batch",
        "behind",
        "epoch",
        "held_since_s",
        "held_why",
        "keys",
        "limits",
        "operations_max",
        "partition",
        "probing",
        "remembers_since_s",
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
        #: Some account here has a maximum balance; learnt from the script.
        self.limits = False
        #: Dedupe window in force, learnt from the script; 1 until then.
        self.window = 1
        #: Since when the window has been known to be in force (loop time); None until the partition has said
        #: so.
        self._known_since_s: float | None = None
        #: Operations issued earlier are not sent (loop time): if they ran before and were forgotten, they
        #: would run twice.
        self.remembers_since_s = -inf
        self._operations: list[Words] = []
        self._items: list[Pending] = []
        #: When the oldest of them was issued, or earlier (loop time).
        self._issued_s = 0.0
        self._currencies: set[str] = set()
        #: Whether some of them may count as more than one operation.
        self._heavy = False
        #: Maximum operations in one call: fewer if accounts may have limits in many currencies.
        self.operations_max = SCRIPT_OPERATIONS_MAX
        #: The batch that Redis has not answered yet.
        self.batch: Batch | None = None
        #: Batches that Redis has answered and the journal has not confirmed.
        self.undurable = 0
        #: Consecutive replies that were behind the journal.
        self.behind = 0
        #: A probe is out; it holds back batches as a batch does.
        self.probing = False
        self.scheduled = False
        self.held_since_s: float | None = None
        self.held_why = ""

    def __repr__(self) -> str:
        held = f" held={self.held_why}" if self.held_since_s is not None else ""
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
        """Whether it may send and has no turn yet, or may now go earlier because it became a good batch."""
        return (not self.scheduled or len(self._operations) == EARLY_OPERATIONS_MIN) and self.may_send

    @property
    def pending(self) -> int:
        return len(self._operations)

    def _check_room(self, more: int, issued_s: float) -> None:
        if self.held_since_s is not None and (issued_s - self.held_since_s) * 1000 > HOLD_MS_MAX:
            raise Outage(
                "partition_unavailable", f"partition {self.partition} is not served now ({self.held_why})"
            )
        waiting = len(self._operations)
        if waiting + more > QUEUE_OPERATIONS_MAX:
            raise Outage("overloaded", f"partition {self.partition} has {waiting} operations waiting")

    def add(self, operation: Words, item: Pending, issued_s: float) -> bool:
        """Queue one operation. Returns whether a turn is needed. Raises `Outage`; then it is not queued."""
        operations = self._operations
        if self.held_since_s is not None or len(operations) >= QUEUE_OPERATIONS_MAX:
            self._check_room(1, issued_s)
        if not operations or issued_s < self._issued_s:
            self._issued_s = issued_s
        if operation[0] in HEAVY:
            self._heavy = True
        operations.append(operation)
        self._items.append(item)
        # `wants_turn` without its two calls, because every operation passes here.
        if self.batch is not None or self.probing:
            return False
        pending = len(operations)
        if self.scheduled and pending != EARLY_OPERATIONS_MIN:
            return False
        return not self.undurable or (
            pending >= EARLY_OPERATIONS_MIN and self.undurable < UNDURABLE_BATCHES_MAX
        )

    def add_all(self, operations: list[Words], items: list[Pending], issued_s: float) -> bool:
        """`add` all of them or none. They are operations of transfers: none is in `HEAVY`."""
        self._check_room(len(operations), issued_s)
        if not self._operations or issued_s < self._issued_s:
            self._issued_s = issued_s
        before = len(self._operations)
        self._operations += operations
        self._items += items
        becomes_good = before < EARLY_OPERATIONS_MIN <= len(self._operations)
        return (not self.scheduled or becomes_good) and self.may_send

    def take(self) -> Batch | None:
        """The next batch to send, or None when there is nothing to send or one is out."""
        if not self.may_send:
            return None
        operations, items = self._operations, self._items
        most = self._most() if self._heavy else self.operations_max
        self._operations, self._items = operations[most:], items[most:]
        if self._operations:
            operations, items = operations[:most], items[:most]
        self.batch = batch = Batch(self.partition, operations, items, self._issued_s)
        return batch

    def part(self, batch: Batch, issued_ms: int) -> bytes:
        """See `Batch.part`. What does not fit goes back to the head of the queue."""
        currencies = self.currencies if batch.wants_all_currencies else ()
        try:
            return batch.part(self.keys, self.epoch, issued_ms, self.window, currencies, self.limits)
        finally:
            if batch.rest is not None:
                self.queue_first(batch.rest)
                batch.rest = None

    def _most(self) -> int:
        """How many of the queued operations one call takes, at least one."""
        weight = 0
        for most, operation in enumerate(self._operations):
            weight += weight_of(operation)
            if weight > self.operations_max and most:
                return most
        self._heavy = False
        return len(self._operations)

    def put_back(self, batch: Batch) -> None:
        """Put the operations of a batch that certainly did not run at the head of the queue."""
        self.queue_first(batch)
        self.batch = None

    def queue_first(self, batch: Batch) -> None:
        """Put operations that were taken out of a batch at the head of the queue."""
        self._issued_s = min(batch.issued_s, self._issued_s) if self._operations else batch.issued_s
        self._operations = batch.operations + self._operations
        self._heavy = self._heavy or any(operation[0] in HEAVY for operation in batch.operations)
        self._items = batch.items + self._items

    def hold(self, why: str, now_s: float) -> None:
        """Note that the partition cannot take operations now, and since when."""
        if self.held_since_s is None:
            self.held_since_s = now_s
        self.held_why = why

    def release(self) -> None:
        self.held_since_s = None

    def drop_all(self) -> list[Pending]:
        """Empty the queue; the caller tells the items the reason."""
        items, self._operations, self._items = self._items, [], []
        return items

    def learn_window(self, number: int, now_s: float) -> None:
        """Note the window that is in force; the partition consults it and the one before."""
        if self._known_since_s is None:
            self._known_since_s = -inf
        elif number != self.window:
            missed = number > self.window + 1
            since_s = self._known_since_s if number == self.window + 1 else now_s + missed * UNREAD_S_MAX
            self.remembers_since_s = max(self.remembers_since_s, since_s)
            self._known_since_s = now_s
        self.window = number

    def learn_currencies(self, listed: str) -> None:
        """The partition's currencies, as a script names them."""
        self._currencies.update(filter(None, listed.split(",")))
        self.operations_max = min(
            SCRIPT_OPERATIONS_MAX, max(1, SCRIPT_FLAGS_MAX // (len(self._currencies) or 1))
        )

    @property
    def currencies(self) -> list[str]:
        return sorted(self._currencies)
