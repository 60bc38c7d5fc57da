"""How transfers across partitions end: matched with how they began, in the batch, in memory, or in the tables."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import json

from wallet_engine.domain.ids import pack_transaction_id
from wallet_engine.domain.notes import note_of
from wallet_engine.history.database import ms_of, time_of
from wallet_engine.history.facts import PENDING, End, Facts, Origin, Posting, Transfer
from wallet_engine.history.legs import Legs

#: Transfers that are remembered until they end; older ones are looked up.
PENDING_MAX: Final = 200_000

_FIND: Final = """
SELECT t.* FROM unnest($1::integer[], $2::bigint[], $3::smallint[]) AS u (partition, seq, idx)
JOIN transfers AS t ON t.partition = u.partition AND t.seq = u.seq AND t.idx = u.idx AND t.leg = 0
"""
_END_TRANSFERS: Final = """
UPDATE transfers AS t SET status = u.status, code = u.code, ended_at = u.ended_at
FROM unnest($1::integer[], $2::bigint[], $3::smallint[], $4::timestamptz[], $5::text[], $6::text[],
    $7::timestamptz[], $8::text[]) AS u (partition, seq, idx, at, status, code, ended_at, payer)
WHERE t.partition = u.partition AND t.seq = u.seq AND t.idx = u.idx AND t.leg = 0 AND t.at = u.at
"""
_END_POSTINGS: Final = """
UPDATE postings AS p SET status = u.status, code = u.code
FROM unnest($1::integer[], $2::bigint[], $3::smallint[], $4::timestamptz[], $5::text[], $6::text[],
    $7::timestamptz[], $8::text[]) AS u (partition, seq, idx, at, status, code, ended_at, payer)
WHERE p.account = u.payer AND p.at = u.at AND p.partition = u.partition AND p.seq = u.seq AND p.idx = u.idx
"""
_EARLY: Final = """
INSERT INTO early_credits VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING
"""
#: Credits that came early and whose transfer is here now. The rows are locked: another process may be at it too.
_SETTLE: Final = """
WITH found AS (
    SELECT e.*, t.at AS began_at, t.transaction_id, t.type, t.payer, t.reference, t.metadata
    FROM early_credits AS e
    JOIN transfers AS t
        ON t.partition = e.origin_partition AND t.seq = e.origin_seq AND t.idx = e.origin_idx AND t.leg = 0
    FOR UPDATE OF e SKIP LOCKED
), arrived AS (
    UPDATE postings AS p
    SET transaction_id = f.transaction_id, type = f.type, counterparty = f.payer, reference = f.reference,
        metadata = f.metadata
    FROM found AS f
    WHERE p.account = f.account AND p.at = f.at AND p.partition = f.partition AND p.seq = f.seq AND p.idx = f.idx
), ended AS (
    UPDATE transfers AS t SET status = 'success', ended_at = f.at FROM found AS f
    WHERE t.partition = f.origin_partition AND t.seq = f.origin_seq AND t.idx = f.origin_idx AND t.leg = 0
        AND t.at = f.began_at
), sent AS (
    UPDATE postings AS p SET status = 'success' FROM found AS f
    WHERE p.account = f.payer AND p.at = f.began_at AND p.partition = f.origin_partition
        AND p.seq = f.origin_seq AND p.idx = f.origin_idx
)
DELETE FROM early_credits AS e USING found AS f
WHERE e.origin_partition = f.origin_partition AND e.origin_seq = f.origin_seq AND e.origin_idx = f.origin_idx
"""


class Ends:
    """Of one sink. `look_up` a batch, ask for its rows, `write`, and tell when that is `written`."""

    def __init__(self) -> None:
        #: Transfers that began and have not ended, in what was written and in this batch.
        self._begun: dict[Origin, Transfer] = {}
        self._here: dict[Origin, Transfer] = {}
        self._ended: dict[Origin, End] = {}
        #: Ends of transfers that are in the tables, and credits of which nothing is known yet.
        self._later: list[tuple[Transfer, End]] = []
        self._unknown: list[tuple[End, str]] = []
        self._legs = Legs()
        #: Whether credits may be waiting in `early_credits`.
        self._early = True

    def __repr__(self) -> str:
        return f"<Ends pending={len(self._begun)}>"

    @property
    def early(self) -> bool:
        """Whether something may be waiting for what it is the end of."""
        return self._early or self._legs.early

    def forget(self) -> None:
        self._begun.clear()
        self._here.clear()
        self._early = self._legs.early = True

    async def look_up(self, connection: Any, facts: Facts) -> None:
        """Match the ends of a batch, and the legs of groups in it with what was said of them."""
        await self._legs.look_up(connection, facts)
        self._here = {t.origin: t for t in facts.transfers if t.status == PENDING}
        self._ended = {end.origin: end for end in facts.ends}
        self._later, self._unknown = [], []
        missing = [o for o in self._ended if o not in self._here and o not in self._begun]
        found = await self._find(connection, missing) if missing else {}
        for origin, end in self._ended.items():
            if origin in self._here:
                continue
            transfer = self._begun.get(origin) or found.get(origin)
            if transfer is not None:
                self._later.append((transfer, end))
                self._begun[origin] = transfer
        unknown = {origin for origin in missing if origin not in found}
        if unknown:
            self._unknown = [
                (self._ended[p.origin], p.account)
                for p in facts.postings
                if p.origin in unknown and not p.type
            ]

    def of_posting(self, posting: Posting) -> tuple[Transfer | None, str, str]:
        """The transfer of a posting that does not know it, and status and code as they are known by now."""
        origin = posting.origin
        if not posting.type:
            return self._here.get(origin) or self._begun.get(origin), posting.status, posting.code
        if posting.status == PENDING:
            end = self._ended.get(origin)
            if end is not None:
                return None, end.status, end.code
        return None, posting.status, posting.code

    def of_transfer(self, transfer: Transfer) -> End | None:
        return self._ended.get(transfer.origin) if transfer.status == PENDING else None

    async def write(self, connection: Any) -> None:
        """Write the ends of transfers that were written before; in the transaction of the batch."""
        if self._later:
            rows = [
                (*t.origin[:3], time_of(t.at_ms), e.status, e.code or None, time_of(e.at_ms), t.payer)
                for t, e in self._later
            ]
            columns = [list(column) for column in zip(*rows, strict=True)]
            await connection.execute(_END_TRANSFERS, *columns)
            await connection.execute(_END_POSTINGS, *columns)
        if self._unknown:
            await connection.executemany(
                _EARLY,
                [
                    (*end.origin[:3], end.partition, end.seq, end.idx, time_of(end.at_ms), account)
                    for end, account in self._unknown
                ],
            )
        await self._legs.write(connection)

    async def written(self, connection: Any) -> None:
        """The batch is committed."""
        for origin in self._ended:
            self._begun.pop(origin, None)
        self._begun.update((o, t) for o, t in self._here.items() if o not in self._ended)
        while len(self._begun) > PENDING_MAX:
            del self._begun[next(iter(self._begun))]
        self._early = self._early or bool(self._unknown)
        await self.settle_early(connection)

    async def settle_early(self, connection: Any) -> None:
        """Give what came early what its transfer knows, where that is here by now."""
        if self._early:
            await connection.execute(_SETTLE)
            self._early = await connection.fetchval("SELECT EXISTS (SELECT FROM early_credits)")
        if self._legs.early:
            await self._legs.settle(connection)

    async def _find(self, connection: Any, origins: Sequence[Origin]) -> dict[Origin, Transfer]:
        columns = [[o[field] for o in origins] for field in range(3)]
        found = {}
        for row in await connection.fetch(_FIND, *columns):
            origin = Origin(row["partition"], row["seq"], row["idx"])
            note = _note_of(row["reference"], row["metadata"])
            found[origin] = Transfer(
                *(origin, ms_of(row["at"]), pack_transaction_id(str(row["transaction_id"])), row["type"]),
                *(row["payer"], row["receiver"], row["amount"], row["currency"], row["status"], ""),
                *(note, row["key_id"] or ""),
            )
        return found


def _note_of(reference: str | None, metadata: str | None) -> str:
    return note_of(reference, None if metadata is None else json.decode(metadata))
