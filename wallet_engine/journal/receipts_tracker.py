"""The service's side of receipts, without I/O: which nonces are awaited, and on how many copies they are.

A receipt is matched by nonce, never by sequence number: after a failover the same number can stand for
another entry. A copy counts once, even if it repeats a receipt.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Final, Protocol, TypeVar

import msgspec

from wallet_engine.journal.link_wire import (
    ASKS_PER_MESSAGE_MAX,
    Ask,
    NewEntry,
    ReceiptGroup,
    ServiceAnswer,
    ServiceQuestion,
)

Callback = Callable[[], None]

A = TypeVar("A", bound=msgspec.Struct)

#: Durable nonces remembered per generation; two generations are kept (about 100 bytes each).
RECENT_NONCES_MAX: Final = 8_192
#: Entries that a silent copy is asked for. It needs several, because it may have set one aside, or prepare a
#: new epoch.
ALIVE_ASKS: Final = 8


class CopyConnection(Protocol):
    """A live connection to one journal copy."""

    def ask(self, asks: Sequence[Ask]) -> None: ...

    def find(self, question: ServiceQuestion) -> None: ...

    def recover(self, shard: str, reason: str) -> None: ...

    def written(self, entries: Sequence[NewEntry]) -> None: ...


class _Pending:
    """A nonce that is not yet on `quorum` copies. `copies` is a bit mask."""

    __slots__ = ("asked", "callback", "connects", "copies", "more", "partition", "seq")

    def __init__(
        self, partition: int, seq: int | None, callback: Callback, copies: int, connects: int
    ) -> None:
        self.partition = partition
        self.seq = seq
        self.callback = callback
        self.more: list[Callback] | None = None
        self.copies = copies
        #: Number of connects of copies when this was created; if it has grown since, a receipt may be missed.
        self.connects = connects
        self.asked = False

    def callbacks(self) -> list[Callback]:
        return [self.callback, *(self.more or ())]


class ReceiptTracker:
    """Calls back when a nonce is durable on `quorum` distinct copies. One thread only."""

    def __init__(self, quorum: int) -> None:
        self.quorum = quorum
        self._pending: dict[str, _Pending] = {}
        #: nonce -> mask of the copies that have it, for recent nonces. With a quorum of 1, any one of them.
        self._recent: dict[str, int] = {}
        self._older: dict[str, int] = {}
        #: Copy -> partition -> (seq, nonce) of its last durable entry that is known here.
        self._latest: dict[int, dict[int, tuple[int, str]]] = {}
        self._masks: dict[str, int] = {}
        self._connections: dict[str, CopyConnection] = {}
        self._connects = 0
        #: Request -> who was asked, and the answer.
        self._questions: dict[int, tuple[CopyConnection | None, asyncio.Future[ServiceAnswer]]] = {}
        self._requests = 0
        #: Mask of the copies that have sent something since `take_heard`.
        self._heard = 0

    def __repr__(self) -> str:
        copies = ",".join(sorted(self._connections)) or "none"
        return f"<ReceiptTracker quorum={self.quorum} pending={self.pending} copies={copies}>"

    @property
    def pending(self) -> int:
        """Number of awaited nonces."""
        return len(self._pending)

    @property
    def copies(self) -> int:
        """Copies connected now; with fewer than the quorum nothing can become durable."""
        return len(self._connections)

    def expect(self, partition: int, seq: int | None, nonce: str, callback: Callback) -> None:
        """Call `callback` once, when the nonce is on `quorum` copies; at once if that is already known."""
        pending = self._pending.get(nonce)
        if pending is not None:
            if pending.more is None:
                pending.more = []
            pending.more.append(callback)
            if seq is not None:
                pending.seq = seq
            return
        copies = self._copies_of(partition, nonce)
        if copies and copies.bit_count() >= self.quorum:
            callback()
            return
        self._pending[nonce] = _Pending(partition, seq, callback, copies, self._connects)

    def expect_new(self, partition: int, nonce: str, callback: Callback) -> None:
        """`expect` for a new nonce that no copy can have yet."""
        self._pending[nonce] = _Pending(partition, None, callback, 0, self._connects)

    def ask_needed(self, partition: int, seq: int, nonce: str, callback: Callback) -> None:
        """`expect` for an entry of another service, whose receipt may have passed: asks for it now."""
        self.expect(partition, seq, nonce, callback)
        pending = self._pending.get(nonce)
        if pending is not None and not pending.asked:
            self._ask(pending, nonce)

    def placed(self, nonce: str, seq: int) -> None:
        """The seq of an expected nonce is known now. Asks for it if a receipt may have been missed."""
        pending = self._pending.get(nonce)
        if pending is not None:
            pending.seq = seq
            if pending.connects != self._connects and not pending.asked:
                self._ask(pending, nonce)

    def forget(self, nonce: str, callback: Callback | None = None) -> None:
        """Stop waiting for the nonce; with `callback`, remove only that one."""
        pending = self._pending.get(nonce)
        if pending is None:
            return
        callbacks = [] if callback is None else pending.callbacks()
        if callback in callbacks:
            callbacks.remove(callback)
        if callbacks:
            pending.callback, pending.more = callbacks[0], callbacks[1:]
        else:
            del self._pending[nonce]

    def receipts(self, copy: int, groups: Iterable[ReceiptGroup]) -> None:
        """These nonces are durable on the copy (a mask from `connected`).

        An exception in a callback does not stop the others; the first one is raised at the end.
        """
        self._heard |= copy
        latest = self._latest[copy]
        failure: Exception | None = None
        for partition, nonces, last_seq in groups:
            if nonces and last_seq > latest.get(partition, (0, ""))[0]:
                latest[partition] = last_seq, nonces[-1]
            for pending in self._durable(copy, nonces):
                try:
                    pending.callback()
                except Exception as error:
                    failure = failure or error
                for callback in pending.more or ():
                    try:
                        callback()
                    except Exception as error:
                        failure = failure or error
        if len(self._recent) >= RECENT_NONCES_MAX:
            self._older, self._recent = self._recent, {}
        if failure is not None:
            raise failure

    def _durable(self, copy: int, nonces: list[str]) -> list[_Pending]:
        """Note the nonces as durable on the copy; take out those that now have their quorum."""
        recent, all_pending = self._recent, self._pending
        if self.quorum == 1:
            recent.update(zip(nonces, repeat(copy)))
            if all_pending.keys().isdisjoint(nonces):
                return []
            return [all_pending.pop(nonce) for nonce in nonces if nonce in all_pending]
        older, reached = self._older, []
        for nonce in nonces:
            recent[nonce] = recent.get(nonce, 0) | older.get(nonce, 0) | copy
            pending = all_pending.get(nonce)
            if pending is not None:
                pending.copies |= copy
                if pending.copies.bit_count() >= self.quorum:
                    del all_pending[nonce]
                    reached.append(pending)
        return reached

    def _copies_of(self, partition: int, nonce: str) -> int:
        copies = self._recent.get(nonce, 0) | self._older.get(nonce, 0)
        for copy, latest in self._latest.items():
            at = latest.get(partition)
            if at is not None and at[1] == nonce:
                copies |= copy
        return copies

    def latest_seq(self, partition: int) -> int:
        """The newest entry of the partition that is known to be on a quorum of copies; 0 when none is."""
        latest = self._latest.values()
        if self.quorum == 1:
            return max((at[partition][0] for at in latest if partition in at), default=0)
        seqs = sorted((at[partition][0] for at in latest if partition in at), reverse=True)
        return seqs[self.quorum - 1] if len(seqs) >= self.quorum else 0

    def connected(self, journal_id: str, connection: CopyConnection, positions: Iterable[Ask]) -> int:
        """A copy is connected and has these durable positions. Asks it for all pending entries.

        Returns the copy's mask, which is the same for each of its connections.
        """
        copy = self._masks.setdefault(journal_id, 1 << len(self._masks))
        self._latest.setdefault(copy, {})
        self._connections[journal_id] = connection
        self._connects += 1
        self.receipts(copy, [(partition, [nonce], seq) for partition, seq, nonce in positions])
        asks = [
            (pending.partition, pending.seq, nonce)
            for nonce, pending in self._pending.items()
            if pending.seq is not None and not pending.copies & copy
        ]
        for start in range(0, len(asks), ASKS_PER_MESSAGE_MAX):
            connection.ask(asks[start : start + ASKS_PER_MESSAGE_MAX])
        return copy

    def disconnected(self, journal_id: str, connection: CopyConnection) -> None:
        """The connection is gone. What is pending stays pending; questions to this copy fail."""
        if self._connections.get(journal_id) is connection:
            del self._connections[journal_id]
        for asked, answer in self._questions.values():
            if asked is connection and not answer.done():
                answer.set_exception(TimeoutError(f"journal copy {journal_id} hung up"))

    def _ask(self, pending: _Pending, nonce: str) -> None:
        if pending.seq is None:
            return
        pending.asked = True
        for journal_id, connection in self._connections.items():
            if not pending.copies & self._masks[journal_id]:
                connection.ask([(pending.partition, pending.seq, nonce)])

    def take_heard(self) -> dict[str, bool]:
        """Whether each connected copy has sent anything since the last call."""
        heard, self._heard = self._heard, 0
        return {journal_id: bool(self._masks[journal_id] & heard) for journal_id in self._connections}

    def ask_alive(self, journal_id: str) -> bool:
        """Ask a connected copy for entries it has receipted before; False if there are none."""
        latest = self._latest[self._masks[journal_id]]
        if not latest:
            return False
        some = random.sample(list(latest), min(ALIVE_ASKS, len(latest)))
        self._connections[journal_id].ask([(partition, *latest[partition]) for partition in some])
        return True

    async def answer_of(self, question: ServiceQuestion, kind: type[A], timeout_s: float) -> A:
        """The answer of one connected copy, chosen at random.

        Sets `question.request`. Raises TimeoutError, at once when the copy hangs up.
        """
        self._requests += 1
        request = question.request = self._requests
        answer: asyncio.Future[ServiceAnswer] = asyncio.get_running_loop().create_future()
        connection = random.choice(list(self._connections.values())) if self._connections else None
        self._questions[request] = connection, answer
        if connection is not None:
            connection.find(question)
        try:
            async with asyncio.timeout(timeout_s):
                found = await answer
        finally:
            del self._questions[request]
        if not isinstance(found, kind):
            raise TimeoutError(f"a journal copy answered {type(question).__name__} with {found!r}")
        return found

    def answered(self, answer: ServiceAnswer) -> None:
        """A copy has answered a question, possibly too late."""
        _, waiting = self._questions.get(answer.request, (None, None))
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def request_recovery(self, shard: str, reason: str) -> int:
        """Tell every connected copy that the shard needs recovery. Returns how many were told."""
        for connection in self._connections.values():
            connection.recover(shard, reason)
        return len(self._connections)

    def written(self, entries: Sequence[NewEntry]) -> None:
        """Tell every connected copy of new entries."""
        for connection in self._connections.values():
            connection.written(entries)
