"""A refund that a caller asked for: a transfer from the original's receiver to its payer, up to its amount.

Across partitions the debit raises the refunded sum of the original; a refused credit lowers it again and gives the
money back. As with every transfer, any process may repeat each step.
"""

from wallet_engine.domain import returns
from wallet_engine.domain.operation import Words
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.engine import Engine
from wallet_engine.saga.patient import PatientTransfer
from wallet_engine.saga.transfer import LOCAL, Call


class Refund(PatientTransfer):
    """As `PatientTransfer`; its payer is the original's receiver. `words` is `domain.returns.Evidence.text`."""

    __slots__ = ("words",)

    SUCCESS = returns.RETURN_RECORD

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

    def _refund(self, decline: str) -> Words:
        sender, _, amount, currency, transaction, _, by = self.command
        other = returns.undoing(self.seq, self.idx, decline, self.words)
        return ("j", transaction, sender, other, amount, currency, "", by)
