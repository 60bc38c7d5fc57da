"""Originals of refunds that the partitions have forgotten: the history store has them for 400 days.

The service reads the window in force first. Then it asks the history store for the refunded sum, once that
store has everything that the receiver's partition has decided so far. If the refund is decided in the same
window, nothing was forgotten in between.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.memory import transfer_field
from wallet_engine.domain.refund_command import Original
from wallet_engine.domain.returns import LEG, stored
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.reads import Reader
from wallet_engine.history.facts import DECLINED, GROUP, PENDING, REFUND

if TYPE_CHECKING:  # a service without a history store needs no driver of PostgreSQL
    from wallet_engine.history.originals import Originals

#: How long after a transfer it can be refunded.
REFUNDED_DAYS_MAX: Final = 400


class ForgottenOriginals:
    """Without a history store it finds nothing."""

    def __init__(self, engine: Engine, reader: Reader, originals: "Originals | None") -> None:
        self._engine = engine
        self._reader = reader
        self._originals = originals

    def __repr__(self) -> str:
        return f"<ForgottenOriginals {self._originals!r}>"

    async def find(self, from_account: str, transaction: str, leg: int | None) -> Original | str:
        """The transfer, or the code of why it cannot be refunded. Raises `InvalidInput` (leg), `Outage`."""
        if self._originals is None:
            return "transfer_not_found"
        homes = self._engine.cluster.homes
        p = homes.of_payer(from_account, transaction)
        # The store may lack it, its end, or a later use of its id so far.
        seq, _ = await self._reader.position(p)
        found = await self._originals.find(from_account, transaction, (p, seq))
        if not found:
            return "transfer_not_found"
        first = found[0]
        if datetime.now(UTC) - first.at > timedelta(days=REFUNDED_DAYS_MAX):
            return "refund_window_closed"
        if first.status == PENDING:
            return "transfer_pending"
        if first.status == DECLINED or first.type == REFUND:
            return "not_refundable"
        grouped = first.type == GROUP
        check_leg(leg, len(found) if grouped else 0)
        of = found[leg or 0]
        field = transfer_field(from_account, transaction)
        q = homes.of_receiver(of.receiver, homes.of_payer(of.payer, transaction))
        window = self._engine.cluster.accumulators[q].window
        seq, _ = await self._reader.position(q)
        returned = await self._originals.returned(of, transaction, (q, seq))
        return Original(
            payer=of.payer,
            field=f"{field}{LEG}{of.leg}" if grouped else field,
            receiver=of.receiver,
            amount_minor=of.amount_minor,
            currency=of.currency,
            p=of.partition,
            seq=of.seq,
            idx=of.idx,
            q=q,
            how=stored(window, returned),
            returned_minor=returned,
        )


def check_leg(leg: int | None, legs: int) -> None:
    """Check the index of a leg against the number of legs; a transfer has 0. Raises `InvalidInput`."""
    if not legs and leg is not None:
        raise InvalidInput("invalid_request", "leg: the transfer has none")
    if legs > 1 and leg is None:
        raise InvalidInput("invalid_request", f"leg: which of the {legs} of the group")
    if legs and (leg or 0) >= legs:
        raise InvalidInput("invalid_request", f"leg: the group has {legs}")
