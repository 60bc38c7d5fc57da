"""Answers repeats from the dedupe memory while no new work may begin.

The script answers a repeat before it decides anything else. This code looks up requests that are refused
before they reach the script, without a write. So a repeat of an ended transfer gets its answer in any state
of the receiver.
"""

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.holds import body_of
from wallet_engine.domain.kinds import kind_of
from wallet_engine.domain.memory import TransferRecord, transfer_field, transfer_fingerprint
from wallet_engine.domain.operation import Words
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.returns import RETURN_RECORD
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.reads import Reader


class Repeats:
    """Costs two reads of one field for a new operation, and a look-up for a repeat."""

    def __init__(self, engine: Engine, reader: Reader) -> None:
        self._engine = engine
        self._reader = reader

    def __repr__(self) -> str:
        return f"<Repeats {self._engine!r}>"

    async def outcome_of(self, p: int, words: Words) -> str | None:
        """What p remembers of an operation with an id: an outcome, `HOLD_RECORD` or `RETURN_RECORD`.

        `outcome_unknown` while its money is on its way, or when the journal does not confirm the memory.
        None when it is new, or when p cannot be asked.
        """
        kind, transaction, account, other, amount, currency, note, _ = words
        field = transfer_field(account, transaction)
        if not await self._reader.remembers(p, field):
            return None
        try:
            read = await self._reader.transfer(p, field)
        except Outage:
            return "outcome_unknown"
        if read.record is None:
            return None
        record = TransferRecord.parse(read.record)
        body = f"{other} {amount} {currency}" if kind in "td" else body_of(kind, other, amount, currency)
        if record.fingerprint != transfer_fingerprint(account, body, note):
            return Outcome.CONFLICT.value
        pending = read.open and (read.operation is None or kind_of(read.operation.kind).opens)
        if pending and record.outcome in (Outcome.APPLIED, RETURN_RECORD):
            return "outcome_unknown"
        return record.outcome
