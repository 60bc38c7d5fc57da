"""A partition's share of one call of the apply script: the operations that go together, and the reply."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from wallet_engine.domain.columns import Packed, pack
from wallet_engine.domain.errors import Outage
from wallet_engine.domain.kinds import KINDS, weight_of
from wallet_engine.domain.limits import SCRIPT_FIELDS_MAX, SCRIPT_OPERATIONS_MAX
from wallet_engine.domain.operation import Words
from wallet_engine.journal.format import PAYLOAD_BYTES_MAX
from wallet_engine.journal.link_wire import NewEntry
from wallet_engine.redis_store.apply_call import apply_part
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.telemetry.logging import get_logger

log = get_logger(__name__)

#: Replaces the outcome in the detail of a repeat if the call had already read enough other entries
#: (`lua/apply.lua`).
LOOK_AGAIN: Final = "?"
#: Weight of an operation if accounts have a maximum balance: the script then also reads what is held.
LIMITED_WEIGHT: Final = 2
#: Maximum bytes of a batch's columns, so that they and their header are one entry of the journal.
COLUMNS_BYTES_MAX: Final = PAYLOAD_BYTES_MAX - 4096
#: Nonces drawn at a time.
NONCES_DRAWN: Final = 512


def _nobody_waits() -> None:
    pass


def _nonces() -> Iterator[str]:
    """64 random bits each, in hex. Draws many at a time, because a call to the system is slow."""
    while True:
        text = os.urandom(8 * NONCES_DRAWN).hex()
        yield from (text[start : start + 16] for start in range(0, len(text), 16))


_nonce = _nonces()


def _draw_anew() -> None:
    """After a fork, two processes must not give out the same nonces."""
    global _nonce
    _nonce = _nonces()


os.register_at_fork(after_in_child=_draw_anew)


class Pending(Protocol):
    """Waits for one operation. Exactly one of the two methods is called, once."""

    def committed(self, outcome: str, idx: int, batch: "Batch") -> None:
        """The operation was decided and the decision is durable. `batch.detail(idx)` explains a repeat."""

    def failed(self, outage: Outage) -> None:
        """The operation was not decided, or its outcome is not known; `outage.code` tells which."""


class Batch:
    """Operations of one partition that are decided together. `items[i]` waits for `operations[i]`."""

    __slots__ = (
        "answered_s",
        "applied",
        "columns",
        "cost",
        "deadline_s",
        "details",
        "durable",
        "effective_nonce",
        "entry",
        "epoch",
        "extended",
        "header",
        "issued_s",
        "items",
        "nonce",
        "on_durable",
        "on_end",
        "operations",
        "outcomes",
        "partition",
        "rest",
        "sent_s",
        "seq",
        "time_ms",
        "unsettled",
        "wants_all_currencies",
    )

    def __init__(
        self, partition: int, operations: list[Words], items: list[Pending], issued_s: float
    ) -> None:
        self.partition = partition
        self.operations = operations
        self.items = items
        #: When the oldest operation was issued (loop time).
        self.issued_s = issued_s
        self.nonce = next(_nonce)
        self.epoch = 0
        self.sent_s = 0.0
        #: When to stop waiting for receipts (loop time).
        self.deadline_s = 0.0
        self.answered_s = 0.0
        #: The receipt tracker calls this when the entry is durable.
        self.on_durable: Callable[[], None] = _nobody_waits
        #: The two parts of the new entry: `columns` was sent to Redis, `header` is its reply.
        self.columns = self.header = b""
        self.seq = 0
        #: The name of the entry outside its partition: `<partition>.<seq>`.
        self.entry = ""
        self.effective_nonce = self.nonce
        self.time_ms = 0
        self.outcomes = ""
        self.details: dict[int, list[str]] | None = None
        self.applied = False
        self.durable = False
        #: Debits of this entry whose credit or refund is not durable yet.
        self.unsettled = 0
        #: The script needs every balance hash of the partition to decide (closing an account).
        self.wants_all_currencies = False
        #: Weight in a call, in plain operations; and whether it needs the extended text of the script.
        self.cost = 0
        self.extended = False
        #: See `part`.
        self.rest: Batch | None = None
        #: Called with the nonce when the batch is no longer out; once for each time it was sent.
        self.on_end: Callable[[str], None] | None = None

    def __repr__(self) -> str:
        state = "durable" if self.durable else "applied" if self.applied else "sent"
        return f"<Batch p={self.partition} seq={self.seq} nonce={self.nonce} operations={len(self.operations)} {state}>"

    def part(
        self,
        keys: PartitionKeys,
        epoch: int,
        issued_ms: int,
        window: int,
        currencies: Iterable[str],
        limits: bool = False,
    ) -> bytes:
        """The batch's packed arguments of a call; it may read `currencies` besides those of its operations.

        `limits`: some account of the partition has a maximum balance.

        Operations that would make the call or its entry too long are moved to `rest`.
        """
        packed = pack(self.operations)
        # Long notes, or many legs.
        while len(packed.columns) > COLUMNS_BYTES_MAX and len(self.operations) > 1:
            self.cut(len(self.operations) // 2)
            packed = pack(self.operations)
        fields = 0
        if packed.everywhere:
            each = len(packed.currencies.union(currencies) or "-")
            packed = self._fit(packed, SCRIPT_FIELDS_MAX // each)
            fields = packed.everywhere * each
        self.columns = packed.columns
        self.cost = len(self.operations)
        if packed.extended or fields:
            self.cost = (
                sum(map(weight_of, self.operations)) + fields * SCRIPT_OPERATIONS_MAX // SCRIPT_FIELDS_MAX
            )
        if limits:
            packed = packed._replace(extended=True)
            self.cost *= LIMITED_WEIGHT
        self.extended = packed.extended
        return apply_part(
            keys, currencies, packed, epoch=epoch, nonce=self.nonce, issued_ms=issued_ms, window=window
        )

    def _fit(self, packed: Packed, everywhere_max: int) -> Packed:
        """Cut the batch before the operation that exceeds the limit of those that read every currency."""
        wide = [idx for idx, operation in enumerate(self.operations) if KINDS[operation[0]].everywhere]
        if len(wide) <= max(1, everywhere_max):
            return packed
        self.cut(wide[max(1, everywhere_max)])
        return pack(self.operations)

    def cut(self, end: int) -> None:
        """Keep the first `end` operations; the others go to the head of `rest`."""
        if len(self.operations) <= end:
            return
        operations, items = self.operations[end:], self.items[end:]
        if self.rest is not None:
            operations, items = operations + self.rest.operations, items + self.rest.items
        self.rest = Batch(self.partition, operations, items, self.issued_s)
        self.operations, self.items = self.operations[:end], self.items[:end]

    def accept(self, reply: bytes) -> None:
        """Take over a reply that is not a refusal."""
        self.header, _, explained = reply.partition(b"\n")
        seq, _, self.effective_nonce, _, time_ms, _, self.outcomes, _ = self.header.decode().split(" ")
        self.seq = int(seq)
        self.entry = f"{self.partition}.{seq}"
        self.time_ms = int(time_ms)
        if explained:
            details = (detail.split(" ") for detail in explained.decode().split("\n"))
            self.details = {int(idx): words for idx, *words in details}
        self.applied = True

    def new_entry(self) -> NewEntry:
        """The entry that the call made, for the journal; the batch does not keep it after this."""
        entry = (self.partition, self.header, self.columns)
        self.header = self.columns = b""
        return entry

    def detail(self, idx: int) -> list[str]:
        """The answer to a repeated operation: `[outcome, "<seq>.<idx>", open]`, for a credit `[outcome]`.

        For an operation that was applied to a hold, the words of the hold's record.
        """
        return self.details[idx] if self.details is not None and idx in self.details else []

    def take_ending(self) -> "Batch | None":
        """Split off the operations of a refused batch that end begun work; None if none or all of them do."""
        both = list(zip(self.operations, self.items, strict=True))
        ending = [(operation, item) for operation, item in both if KINDS[operation[0]].ends]
        if not ending or len(ending) == len(both):
            return None
        rest = [(operation, item) for operation, item in both if not KINDS[operation[0]].ends]
        self.operations, self.items = [operation for operation, _ in rest], [item for _, item in rest]
        return Batch(self.partition, [o for o, _ in ending], [i for _, i in ending], self.issued_s)

    def commit(self) -> None:
        """Tell every waiting item its outcome; the entry is durable now."""
        items = self._release_items()
        for idx, item, outcome in zip(range(len(items)), items, self.outcomes, strict=True):
            try:
                item.committed(outcome, idx, self)
            except Exception:  # a bug in one item must not leave the others waiting
                log.exception("an operation's outcome was not taken", batch=repr(self), idx=idx)

    def fail(self, outage: Outage) -> None:
        """Tell every waiting item that its outcome is not known, or that nothing was done."""
        for item in self._release_items():
            try:
                item.failed(outage)
            except Exception:  # as in `commit`
                log.exception("an operation's failure was not taken", batch=repr(self))

    def end(self) -> None:
        """The batch is durable, or failed, or goes back into the queue."""
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end(self.nonce)

    def _release_items(self) -> list[Pending]:
        """Break the references between batch, items and callbacks, so the collector has nothing to do."""
        items, self.items = self.items, []
        self.on_durable = _nobody_waits
        self.end()
        return items
