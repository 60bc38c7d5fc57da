"""The deliveries to one endpoint: which is next, and what follows from the result of an attempt.

Each account (the events' subject) has one delivery under way at a time, the oldest. The account's others wait
for it, also while it waits for its next try. So one account's events arrive in order, and other accounts do
not wait.

Only the oldest deliveries of an account are in memory. The later ones are in the table, and are read when those
have ended: an account whose deliveries fail for days takes no room from others. When very many wait, the log is read
on only once fewer do; or, if the oldest has failed some times, later ones are parked at once, and listed so. Else the
table would grow for as long as the endpoint fails.

The queue only decides; it does no I/O, and the caller passes the time.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from wallet_engine.webhooks.reply import Reply

#: Wait in seconds after each failed attempt. After the last one there is no further attempt.
RETRY_S: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
#: Each wait is longer by up to this share, so that endpoints that failed together are not retried together.
JITTER_MAX: Final = 0.1
#: Deliveries of one account in memory.
LINE_MAX: Final = 100
#: Deliveries of one account that may wait, in memory or in the table.
WAITING_MAX: Final = 100_000
#: Failed attempts at the oldest of so many from which on later ones are parked without an attempt: after five minutes.
FAILED_MIN: Final = 3
_GONE: Final = 410

PENDING: Final = "pending"
DELIVERED: Final = "delivered"
PARKED: Final = "parked"
STATUSES: Final = (PENDING, DELIVERED, PARKED)


@dataclass(slots=True)
class Delivery:
    """One event for one endpoint; times are Unix seconds."""

    delivery_id: int
    event_id: str
    subject: str
    body: bytes
    attempts: int = 0
    next_s: float = 0.0
    #: Tried only once, whatever the result.
    once: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an attempt."""

    delivery: Delivery
    status: str
    reply: Reply
    #: When a pending delivery is tried again.
    next_s: float
    #: The URL that answered 410 Gone; empty if none did.
    gone: str = ""


class Queue:
    """The deliveries of one endpoint that have not ended."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        """`jitter` returns numbers from 0 to 1."""
        self._jitter = jitter
        #: Subject -> its deliveries, the oldest first.
        self._lines: dict[str, deque[Delivery]] = {}
        #: (when, delivery_id, subject) of each line's first delivery that is not under way.
        self._due: list[tuple[float, int, str]] = []
        self._count = 0
        #: Subject -> its pending deliveries, also those in the table alone.
        self._waiting: Counter[str] = Counter()
        #: Subjects with `WAITING_MAX` or more.
        self._many: set[str] = set()
        #: Subjects with later deliveries that are not in memory, and those of them that have none in memory any more.
        self._cut: set[str] = set()
        self.short: set[str] = set()

    def __repr__(self) -> str:
        return f"<Queue pending={self._count} accounts={len(self._lines)}>"

    def __len__(self) -> int:
        return self._count

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Append the deliveries to the lines of their accounts, if these are not full."""
        for delivery in deliveries:
            if delivery.subject in self._cut:
                continue
            line = self._lines.setdefault(delivery.subject, deque())
            if len(line) == LINE_MAX:
                self._cut.add(delivery.subject)
                continue
            line.append(delivery)
            self._count += 1
            if len(line) == 1:
                self._push(delivery)

    def waits(self, counts: Mapping[str, int]) -> None:
        """Note that so many more deliveries of these subjects are pending."""
        self._waiting.update(counts)
        self._many.update(subject for subject in counts if self._waiting[subject] >= WAITING_MAX)

    @property
    def failing(self) -> frozenset[str]:
        """Subjects of which very many wait behind one that fails: no more of them are to wait."""
        lines = self._lines
        return frozenset(s for s in self._many if s in lines and lines[s][0].attempts >= FAILED_MIN)

    @property
    def crowded(self) -> bool:
        """Whether very many of a subject wait that may soon be sent."""
        return len(self.failing) < len(self._many)

    def refill(self, subject: str, deliveries: Iterable[Delivery]) -> None:
        """Put the oldest deliveries of a `short` subject into its line, one more than fit if there are so many."""
        self.short.remove(subject)
        self._cut.remove(subject)
        self.add(deliveries)

    def take(self, now_s: float) -> Delivery | None:
        """A delivery that is due now; call `ended` with its result."""
        if not self._due or self._due[0][0] > now_s:
            return None
        return self._lines[heapq.heappop(self._due)[2]][0]

    @property
    def next_s(self) -> float | None:
        """When `take` returns a delivery; None while none waits."""
        return self._due[0][0] if self._due else None

    def decide(self, delivery: Delivery, url: str, reply: Reply, now_s: float) -> Result:
        """The result of an attempt at `url` that began with `take`. Changes nothing."""
        attempts = delivery.attempts + 1
        if reply.delivered:
            return Result(delivery, DELIVERED, reply, now_s)
        gone = url if reply.status == _GONE else ""
        if delivery.once or attempts > len(RETRY_S):
            return Result(delivery, PARKED, reply, now_s, gone)
        wait_s = RETRY_S[attempts - 1] * (1 + JITTER_MAX * self._jitter())
        return Result(delivery, PENDING, reply, now_s + wait_s, gone)

    def ended(self, result: Result) -> None:
        """Take the result of an attempt, after it was recorded."""
        delivery = result.delivery
        line = self._lines[delivery.subject]
        delivery.attempts += 1
        if result.status == PENDING:
            delivery.next_s = result.next_s
        else:
            line.popleft()
            self._count -= 1
            left = self._waiting[delivery.subject] = self._waiting[delivery.subject] - 1
            if left < WAITING_MAX:
                self._many.discard(delivery.subject)
            if not left:
                del self._waiting[delivery.subject]
        if line:
            self._push(line[0])
        else:
            del self._lines[delivery.subject]
            if delivery.subject in self._cut:
                self.short.add(delivery.subject)

    def _push(self, delivery: Delivery) -> None:
        heapq.heappush(self._due, (delivery.next_s, delivery.delivery_id, delivery.subject))
