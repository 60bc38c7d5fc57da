"""Finds in the history the transfers to be refunded that no partition remembers any more."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from wallet_engine.history.reader import HistoryReader, Position
from wallet_engine.history.rows import uuid_of

#: If an id was reused after it was forgotten, the newest use counts.
_NEWEST: Final = """
WITH newest AS (
    SELECT t.at, t.partition, t.seq, t.idx FROM transfers AS t
    WHERE t.transaction_id = $1 AND CASE WHEN t.type = 'group' THEN EXISTS (
        SELECT FROM groups AS g
        WHERE g.partition = t.partition AND g.seq = t.seq AND g.idx = t.idx AND g.at = t.at AND g.payer = $2
    ) ELSE t.payer = $2 END
    ORDER BY t.at DESC LIMIT 1
)
SELECT t.* FROM transfers AS t JOIN newest AS n USING (partition, seq, idx, at) ORDER BY t.leg
"""
#: Pending refunds count as refunded until they are declined. Rows of before do not say which operation they refund.
_RETURNED: Final = """
SELECT coalesce(sum(amount), 0)::bigint FROM transfers
WHERE refunds_id = $1 AND refunds_payer = $2 AND payer = $3 AND coalesce(refunds_leg, $4) = $4
    AND CASE WHEN refunds_origin IS NULL THEN at >= $5 ELSE refunds_origin = $6 END AND status <> 'declined'
"""


class PastTransfer(NamedTuple):
    """A transfer or a leg of a group. The status at that time: `success`, `declined` or `pending`."""

    at: datetime
    partition: int
    seq: int
    idx: int
    leg: int
    type: str
    status: str
    payer: str
    receiver: str
    amount_minor: int
    currency: str


class Originals:
    """Asks the history. Raises what `HistoryReader` raises."""

    def __init__(self, history: HistoryReader) -> None:
        self._history = history

    def __repr__(self) -> str:
        return f"<Originals {self._history!r}>"

    async def find(self, payer: str, transaction: str, position: tuple[int, int]) -> Sequence[PastTransfer]:
        """The transfer of this payer and packed id, or all legs of the group; empty if unknown.

        The history includes at least this entry of the payer's partition. Raises `Behind`.
        """
        await self._history.reach([Position(*position)])
        async with self._history.connection() as connection:
            rows = await connection.fetch(_NEWEST, uuid_of(transaction), payer)
        return [_past_transfer(row) for row in rows]

    async def returned(self, original: PastTransfer, transaction: str, position: tuple[int, int]) -> int:
        """Minor units refunded of it, including at least this entry of its receiver's partition.

        Raises `Behind`.
        """
        await self._history.reach([Position(*position)])
        place = f"{original.partition}.{original.seq}.{original.idx}"
        asked = (uuid_of(transaction), original.payer, original.receiver, original.leg, original.at, place)
        async with self._history.connection() as connection:
            return int(await connection.fetchval(_RETURNED, *asked))


def _past_transfer(row: Any) -> PastTransfer:
    return PastTransfer(
        *(row["at"], row["partition"], row["seq"], row["idx"], row["leg"], row["type"], row["status"]),
        *(row["payer"], row["receiver"], row["amount"], row["currency"]),
    )
