"""A transfer whose repeat only waits for its end if it is still under way, and does not drive it.

Driving it needs the words of its entry. Its driver and the sweeper have them; a repeat does not.
"""

import asyncio
from collections.abc import Iterator
from typing import ClassVar, Final

from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.engine import Engine
from wallet_engine.saga.transfer import APPLIED, DEBIT, LOCAL, REPEATED, Call, Transfer

#: Pauses between checks; 4 s in total, less than any caller waits for an answer.
PAUSES_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.2, 1.2)


class PatientTransfer(Transfer):
    """As `Transfer`, except for repeats. `SUCCESS` is the remembered outcome of one that was applied."""

    __slots__ = ("pauses_s",)

    SUCCESS: ClassVar[str] = APPLIED

    def __init__(
        self, engine: Engine, command: TransferCommand, p: int, q: int, call: Call, index: int
    ) -> None:
        super().__init__(engine, command, p, q, call, index)
        self.pauses_s: Iterator[float] = iter(PAUSES_S)

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        if outcome == REPEATED and self.stage in (LOCAL, DEBIT):
            remembered, _, opened = batch.detail(idx)
            if remembered == self.SUCCESS:
                self._note(batch)
                self._met(batch.sent_s, ended=opened == "0")
                return
        super().committed(outcome, idx, batch)

    def _note(self, batch: Batch) -> None:
        """For the answer's `Wallet-Position`."""
        if self.call.positions is not None:
            self.call.positions[batch.partition] = batch.entry

    def _met(self, issued_s: float, *, ended: bool) -> None:
        self.replayed = True
        if ended:
            self._finish(APPLIED)
        elif pause_s := next(self.pauses_s, None):
            # As old as this repeat: in a service that is stopped meanwhile it must not become a new operation.
            asyncio.get_running_loop().call_later(pause_s, self._ask_again, issued_s)
        else:
            self._finish("outcome_unknown")
