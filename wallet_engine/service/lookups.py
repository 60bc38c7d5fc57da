"""Finds the outcome of a transfer in the dedupe memories of its partitions."""

import asyncio
from typing import Final

from wallet_engine.domain.holds import HOLD_RECORD
from wallet_engine.domain.ids import is_system
from wallet_engine.domain.kinds import kind_of, receiver_of
from wallet_engine.domain.memory import TransferRecord, credit_memory, credit_outcome, transfer_field
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.returns import RETURN_RECORD
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.entries import Entries
from wallet_engine.engine.reads import Reader
from wallet_engine.service.deciding import looked_up, prove

#: The state of a transfer that is neither paid nor declined yet.
PENDING: Final = "~"
#: What the payer's partition remembers of a transfer or refund whose money has left.
_APPLIED: Final = (Outcome.APPLIED.value, RETURN_RECORD)


class LookUps:
    """The part of `service.api.Wallet` that finds what was done."""

    def __init__(self, engine: Engine, reader: Reader) -> None:
        self._engine = engine
        self._reader = reader
        self._entries = Entries(engine, reader)

    def __repr__(self) -> str:
        return f"<LookUps {self._engine!r}>"

    async def find_transfer(self, from_account: str, transaction: str) -> str | None:
        p = self._engine.cluster.homes.of_payer(from_account, transaction)
        found = await looked_up(self._engine, p, lambda: self._find(p, from_account, transaction))
        if found is None and is_system(from_account):
            elsewhere = await self._elsewhere(from_account, transaction)
            if elsewhere is None and await self._is_kept(p, from_account, transaction):
                partitions = range(self._engine.cluster.homes.partitions)
                await asyncio.gather(*(prove(self._engine, other) for other in partitions if other != p))
                elsewhere = await self._elsewhere(from_account, transaction)
            if elsewhere is not None:
                found = await self._find(elsewhere, from_account, transaction)
        return found

    async def _is_kept(self, home: int, from_account: str, transaction: str) -> bool:
        """Whether the home of an id may have kept it for a refund elsewhere (`service/refunds.py`)."""
        read = await self._reader.transfer(home, transfer_field(from_account, transaction))
        return read.record is not None and TransferRecord.parse(read.record).outcome == Outcome.INTERRUPTED

    async def find_proved(self, from_account: str, transaction: str) -> str | None:
        """`find_transfer`, but proves "pending" before the caller refuses something because of it."""
        found = await self.find_transfer(from_account, transaction)
        if found == PENDING:
            await prove(self._engine, self._engine.cluster.homes.of_payer(from_account, transaction))
            found = await self.find_transfer(from_account, transaction)
        return found

    async def _elsewhere(self, from_account: str, transaction: str) -> int | None:
        """The partition that remembers a refund by a system account, if it is not the home of the id.

        A refund is decided where its original is. For other payers that is their home. Raises `Outage` when a
        partition cannot be asked: it may be the one.
        """
        if not is_system(from_account):
            return None
        homes, field = self._engine.cluster.homes, transfer_field(from_account, transaction)
        home = homes.of_payer(from_account, transaction)
        others = [p for p in range(homes.partitions) if p != home]
        reads = await asyncio.gather(*(self._reader.transfer(p, field) for p in others))
        return next((p for p, read in zip(others, reads, strict=True) if read.record is not None), None)

    async def _find(self, p: int, from_account: str, transaction: str) -> str | None:
        homes = self._engine.cluster.homes
        read = await self._reader.transfer(p, transfer_field(from_account, transaction))
        if read.record is None:
            return None
        record, operation = TransferRecord.parse(read.record), read.operation
        if operation is not None and operation.account != from_account:
            return None  # another payer's transfer with the same field
        if record.outcome == HOLD_RECORD:
            return None  # a hold, not a transfer
        if record.outcome == Outcome.INTERRUPTED:
            return None  # an interrupted attempt of a group, which had no effect
        if record.outcome not in _APPLIED or not read.open:
            return record.outcome
        if operation is None:
            return PENDING
        if not kind_of(operation.kind).opens:
            return record.outcome
        # The debit is made and not settled: paid if the receiver remembers the credit.
        field, mark = credit_memory(f"{p}.{record.seq}", record.idx)
        received = await self._reader.transfer(homes.of_receiver(receiver_of(operation), p), field)
        credit = credit_outcome(received.record or "", mark)
        return record.outcome if credit == Outcome.APPLIED.value else PENDING

    async def request_of(self, from_account: str, transaction: str) -> Operation | None:
        """The operation requested under this id; None when it is no longer known. Raises `Outage`."""
        found = await self.operation_of(from_account, transaction)
        if found is None and (elsewhere := await self._elsewhere(from_account, transaction)) is not None:
            found = await self.operation_of(from_account, transaction, elsewhere)
        return None if found is None else found[0]

    async def operation_of(
        self, account: str, transaction: str, p: int | None = None
    ) -> tuple[Operation, int, int] | None:
        """(operation, seq, idx) that a partition remembers under this id: `p`, or else the account's."""
        if p is None:
            p = self._engine.cluster.homes.of_payer(account, transaction)
        read = await self._reader.transfer(p, transfer_field(account, transaction))
        if read.record is None:
            return None
        record = TransferRecord.parse(read.record)
        if record.outcome == Outcome.INTERRUPTED:
            return None  # as in `_find`
        operation = await self._entries.operation(p, record.seq, record.idx, account, transaction)
        return None if operation is None else (operation, record.seq, record.idx)
