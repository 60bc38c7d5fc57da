"""A refund that somebody asked for: a transfer from the original's receiver to its payer, bounded by the original.

Across partitions: the debit raises what has gone back of the original; a refused credit lowers it again and gives the
money back. As with every transfer, each step may be repeated by anyone.
"""

from wallet_engine.domain import returns
from wallet_engine.domain.operation import Words
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.engine import Engine
from wallet_engine.saga.transfer import APPLIED, DEBIT, LOCAL, REPEATED, Call, Transfer


class Refund(Transfer):
    """As `Transfer`; the command's payer is the original's receiver. `words` is `domain.returns.Evidence.text`."""

    __slots__ = ("words",)

    def __init__(
        self, engine: Engine, command: TransferCommand, p: int, q: int, call: Call, index: int, words: str
    ) -> None:
        super().__init__(engine, command, p, q, call, index)
        self.words = words

    def start(self, issued_s: float) -> None:
        kind = "x" if self.stage == LOCAL else "z"
        sender, _, amount, currency, transaction, note, by = self.command
        words = (kind, transaction, sender, self.words, amount, currency, note, by)
        self.engine.submit(self.p, words, self, issued_s)

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        if outcome == REPEATED and self.stage in (LOCAL, DEBIT):
            remembered, _, opened_ms = batch.detail(idx)
            if remembered == returns.RETURN_RECORD:
                self.replayed = True
                # While it is on its way, who drives it ends it, or else the sweeper.
                self._finish(APPLIED if opened_ms == "0" else "outcome_unknown")
                return
        super().committed(outcome, idx, batch)

    def _refund(self, decline: str) -> Words:
        sender, _, amount, currency, transaction, _, by = self.command
        other = returns.undoing(self.seq, self.idx, decline, returns.original_field_of(self.words))
        return ("j", transaction, sender, other, amount, currency, "", by)
