"""One transfer: which operations it takes, in which order, and when its caller is answered.

Inside one partition it is one `transfer` operation. Across two it is `debit`, durable, `credit`, durable,
answer; after a refused credit: `refund`, durable, answer. No credit leaves before its debit is durable: only
then `committed` is called. A retry or the sweeper may repeat every step without moving money twice.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.memory import IDX_TEXTS
from wallet_engine.domain.operation import Words
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.batch import LOOK_AGAIN, Batch
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.positions import Positions, positions_noted
from wallet_engine.saga.settling import settle

APPLIED: Final = Outcome.APPLIED.value
REPEATED: Final = Outcome.REPEATED.value
CONFLICT: Final = Outcome.CONFLICT.value

#: Stages; only captures have the last one.
LOCAL, DEBIT, CREDIT, REFUND, FINISH = range(5)


class Call:
    """The caller of one or many transfers: collects results by position, tells the caller after the last."""

    __slots__ = ("_answer", "on_end", "position", "positions", "remaining", "replayed", "results")

    def __init__(self, size: int, answer: Callable[["Call"], None]) -> None:
        """`answer` is called once: after the last transfer, or when the caller no longer waits."""
        self.results: list[str] = [""] * size
        self.remaining = size
        self.replayed = False
        #: `<p>.<seq>` of the entry seen last; empty before the first.
        self.position = ""
        #: Collects the newest entry seen of each partition; None if the last entry is enough.
        self.positions: Positions | None = None
        self._answer: Callable[[Call], None] | None = answer
        #: Called when the last transfer has ended, even if the caller no longer waits.
        self.on_end: Callable[[Call], None] | None = None

    @classmethod
    def awaited(cls, size: int) -> tuple["Call", asyncio.Future["Call"]]:
        """A call, and the future that gets it as its answer; cancelling the future cancels nothing."""
        future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        call = cls(size, partial(_resolve, future))
        call.positions = positions_noted()
        return call, future

    def __repr__(self) -> str:
        return f"<Call transfers={len(self.results)} remaining={self.remaining}>"

    def finish(self, index: int, result: str) -> None:
        self.results[index] = result
        self.remaining -= 1
        if self.remaining == 0:
            self.give_up()
            if self.on_end is not None:
                self.on_end(self)

    def give_up(self) -> None:
        """Answer the caller with the present results, unless it was answered before."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(self)


def _resolve(future: asyncio.Future[Call], call: Call) -> None:
    if not future.done():
        future.set_result(call)


class Transfer:
    """One transfer on its way. `p` is the sender's partition, `q` the receiver's (equal when all is local)."""

    __slots__ = (
        "call",
        "command",
        "debit_batch",
        "decline",
        "engine",
        "idx",
        "index",
        "p",
        "q",
        "replayed",
        "seq",
        "stage",
    )

    #: The place of the debit, once known: operation `idx` of entry `seq` of `p`.
    seq: int
    idx: int
    #: Why the credit was refused, once it was.
    decline: str

    def __init__(
        self, engine: Engine, command: TransferCommand, p: int, q: int, call: Call, index: int
    ) -> None:
        self.engine = engine
        self.command = command
        self.p = p
        self.q = q
        self.call = call
        self.index = index
        self.stage = LOCAL if p == q else DEBIT
        self.debit_batch: Batch | None = None
        self.replayed = False

    def __repr__(self) -> str:
        stage = ("local", "debit", "credit", "refund", "finish")[self.stage]
        return f"<{type(self).__name__} {self.command.transaction} {self.p}->{self.q} {stage}>"

    async def driven(
        self, answered: "asyncio.Future[Call]", timeout_s: float, issued_s: float
    ) -> tuple[str, bool]:
        """Start it as the only transfer of its call. Returns its result, and whether it is an earlier answer.

        After the time limit the result is `outcome_unknown`; the transfer goes on. Raises `Outage`: nothing
        was done.
        """
        self.start(issued_s)
        try:
            async with asyncio.timeout(timeout_s):
                await answered
        except TimeoutError:
            return "outcome_unknown", False
        return self.call.results[0] or "outcome_unknown", self.call.replayed

    def start(self, issued_s: float) -> None:
        """Submit the first operation. Raises `Outage`: nothing was done."""
        kind = "t" if self.stage == LOCAL else "d"
        sender, receiver, amount, currency, transaction, note, by = self.command
        words = (kind, transaction, sender, receiver, amount, currency, note, by)
        self.engine.submit(self.p, words, self, issued_s)

    def resume(self, seq: int, idx: int, issued_s: float) -> None:
        """Drive the credit of a durable debit (operation `idx` of entry `seq`) again."""
        self.seq = seq
        self.idx = idx
        self._credit(f"{self.p}.{seq}", issued_s)

    def conclude(self, seq: int, idx: int, credit: str, issued_s: float) -> None:
        """Do what follows from a credit whose outcome was found in the receiver's journal."""
        self.seq = seq
        self.idx = idx
        self._credited(credit, issued_s)

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        stage = self.stage
        call = self.call
        if call.position is not batch.entry:  # one entry holds many transfers of a call
            call.position = batch.entry
            if call.positions is not None:
                call.positions[batch.partition] = batch.entry
        if outcome == APPLIED:
            if stage == DEBIT:
                batch.unsettled += 1
                self.debit_batch = batch
                self.seq = batch.seq
                self.idx = idx
                self._credit(batch.entry, batch.sent_s)
            elif stage == REFUND:
                self._refunded(outcome)
            else:
                if stage == CREDIT:
                    self._settled()
                if self.replayed:
                    call.replayed = True
                call.finish(self.index, outcome)
        elif stage == CREDIT:
            self._credited(outcome if outcome != REPEATED else batch.detail(idx)[0], batch.sent_s)
        elif stage == REFUND:
            self._refunded(outcome)
        elif outcome == REPEATED:
            remembered, reference, opened_ms = batch.detail(idx)
            if remembered == LOOK_AGAIN:
                self._ask_again(batch.sent_s)
                return
            self.replayed = remembered != CONFLICT
            if opened_ms == "0" or remembered != APPLIED:
                self._finish(remembered)
            else:
                seq, _, position = reference.partition(".")
                if self.engine.is_old(self.p, int(seq), int(opened_ms), batch.time_ms):
                    self._finish("outcome_unknown")  # the sweeper looks the credit up first
                else:
                    self.resume(int(seq), int(position), batch.sent_s)
        else:
            self._finish(outcome)

    def _ask_again(self, issued_s: float) -> None:
        """Send the debit again: it was made before, but the script call could not tell its outcome."""
        self.replayed = True
        try:
            self.start(issued_s)
        except Outage as outage:
            self.failed(outage)

    def failed(self, outage: Outage) -> None:
        """If the first step did not happen, the result is the outage; after that it is `outcome_unknown`."""
        self._finish(outage.code if self.stage in (LOCAL, DEBIT) and not self.replayed else "outcome_unknown")

    def _credit(self, entry: str, issued_s: float) -> None:
        self.stage = CREDIT
        _, receiver, amount, currency, _, _, by = self.command
        words = ("c", entry, receiver, IDX_TEXTS[self.idx], amount, currency, "", by)
        try:  # `_submit` without its call, because every transfer across partitions passes here
            self.engine.submit(self.q, words, self, issued_s)
        except Outage as outage:
            self.failed(outage)

    def _credited(self, outcome: str, issued_s: float) -> None:
        if outcome == APPLIED:
            self._paid(issued_s)
            return
        self.stage = REFUND
        self.decline = outcome
        self._submit(self.p, self._refund(outcome), issued_s)

    def _paid(self, issued_s: float) -> None:
        """The credit was applied, by this transfer or by another driver."""
        self._settled()
        self._finish(APPLIED)

    def _refund(self, decline: str) -> Words:
        """The operation that gives a refused credit's money back."""
        sender, _, amount, currency, transaction, _, by = self.command
        return ("r", transaction, sender, f"{self.seq}.{self.idx}.{decline}", amount, currency, "", by)

    def _refunded(self, outcome: str) -> None:
        if outcome in (APPLIED, REPEATED):
            self._settled()
            self._finish(self.decline)
        else:  # the sender's balance is at its limit: the money stays on its way, the sweeper tries again
            self._finish("outcome_unknown")

    def _settled(self) -> None:
        batch = self.debit_batch
        if batch is not None:
            batch.unsettled -= 1
            if batch.unsettled == 0:
                settle(self.engine, self.p, batch.seq)

    def _submit(self, partition: int, operation: Words, issued_s: float) -> None:
        try:
            self.engine.submit(partition, operation, self, issued_s)
        except Outage as outage:
            self.failed(outage)

    def _finish(self, result: str) -> None:
        if self.replayed:
            self.call.replayed = True
        self.call.finish(self.index, result)
