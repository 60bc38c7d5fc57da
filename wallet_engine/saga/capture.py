"""A capture: a transfer whose money comes out of a hold, and whose end may end the hold.

Across partitions the debit takes money from the hold, and a refused credit puts it back there. After an
applied credit, a final capture releases the rest of the hold; the caller is answered when that is durable. As
with every transfer, any process may repeat each step.
"""

from wallet_engine.domain import holds
from wallet_engine.domain.operation import Words
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.engine import Engine
from wallet_engine.saga.patient import PatientTransfer
from wallet_engine.saga.transfer import (
    APPLIED,
    CREDIT,
    FINISH,
    LOCAL,
    REPEATED,
    Call,
)


class Capture(PatientTransfer):
    """As `PatientTransfer`; the command's payer is the hold's account. `words` is `domain.holds.capturing`."""

    __slots__ = ("hold_field", "told", "words")

    def __init__(
        self, engine: Engine, command: TransferCommand, p: int, q: int, call: Call, index: int, words: str
    ) -> None:
        super().__init__(engine, command, p, q, call, index)
        self.words = words
        self.hold_field = holds.hold_field_of(words)
        #: The words of the hold's record after the last operation; empty if the script did not return them.
        self.told: list[str] = []

    def start(self, issued_s: float) -> None:
        kind = "k" if self.stage == LOCAL else "q"
        sender, _, amount, currency, transaction, note, by = self.command
        words = (kind, transaction, sender, self.words, amount, currency, note, by)
        self.engine.submit(self.p, words, self, issued_s)

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        if self.stage == FINISH or (self.stage == LOCAL and outcome == APPLIED):
            self.told = batch.detail(idx)
        if self.stage == FINISH:
            if outcome in (APPLIED, REPEATED):
                self._note(batch)
                self._settled()
                self._finish(APPLIED)
            else:  # no room for what remains: the sweeper tries again
                self._finish("outcome_unknown")
        elif self.stage == CREDIT and outcome == APPLIED:
            self._paid(batch.sent_s)
        else:
            super().committed(outcome, idx, batch)

    def _paid(self, issued_s: float) -> None:
        self.stage = FINISH
        sender, _, _, currency, transaction, _, by = self.command
        other = holds.finishing(self.seq, self.idx, self.hold_field)
        self._submit(self.p, ("l", transaction, sender, other, 0, currency, "", by), issued_s)

    def _refund(self, decline: str) -> Words:
        sender, _, amount, currency, transaction, _, by = self.command
        other = holds.uncapturing(self.seq, self.idx, decline, self.hold_field)
        return ("u", transaction, sender, other, amount, currency, "", by)
