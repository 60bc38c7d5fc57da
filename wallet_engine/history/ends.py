"""Matches ends of transfers across partitions with their beginnings: in the batch, memory or tables."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import json

from wallet_engine.domain.errors import WalletError
from wallet_engine.domain.ids import pack_transaction_id
from wallet_engine.domain.notes import note_of
from wallet_engine.history.database import WRITES, ms_of, time_of
from wallet_engine.history.facts import PENDING, End, Facts, Origin, Posting, Transfer
from wallet_engine.history.legs import MatchedLegs, settle_legs

#: Maximum pending transfers in memory; older ones are looked up.
PENDING_MAX: Final = 200_000
#: Share of the time in which all early credits are looked at. After `history rebuild` of a partition, every credit that
#: others got from it is early.
LOOK_SHARE_MAX: Final = 0.2

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
#: Early credits whose transfer has arrived. It is looked up by its key, however small the tables were when PostgreSQL
#: planned this. The rows are locked: another process may settle them too.
_SETTLING: Final = """
WITH found AS (
    SELECT e.*, t.at AS began_at, t.transaction_id, t.type, t.payer, t.reference, t.metadata
    FROM {}
    CROSS JOIN LATERAL (
        SELECT at, transaction_id, type, payer, reference, metadata FROM transfers
        WHERE partition = e.origin_partition AND seq = e.origin_seq AND idx = e.origin_idx AND leg = 0 LIMIT 1
    ) AS t
    {}
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
_SETTLE: Final = _SETTLING.format("early_credits AS e", "FOR UPDATE OF e SKIP LOCKED")
#: Those of these transfers.
_SETTLE_THESE: Final = _SETTLING.format(
    """unnest($1::integer[], $2::bigint[], $3::smallint[]) AS u (partition, seq, idx)
    CROSS JOIN LATERAL (
        SELECT * FROM early_credits
        WHERE origin_partition = u.partition AND origin_seq = u.seq AND origin_idx = u.idx
        FOR UPDATE SKIP LOCKED
    ) AS e""",
    "",
)


class TakenOver(WalletError):
    """Another process has written what follows, or what was written is made anew: this process must read it again."""


class Matched:
    """The ends of one batch, matched with their beginnings as far as known; writes the results."""

    def __init__(self, facts: Facts, legs: MatchedLegs) -> None:
        self.legs = legs
        #: Transfers that began in the batch or end in it.
        self.begun: dict[Origin, Transfer] = {t.origin: t for t in facts.transfers if t.status == PENDING}
        self._ended: dict[Origin, End] = {end.origin: end for end in facts.ends}
        #: Ends of transfers that are in the tables, and credits whose transfer is still unknown.
        self._later: list[tuple[Transfer, End]] = []
        self._unknown: list[tuple[End, str]] = []

    def __repr__(self) -> str:
        return f"<Matched ended={len(self._ended)} later={len(self._later)} unknown={len(self._unknown)}>"

    @property
    def unknown(self) -> bool:
        """Whether a credit waits for its transfer."""
        return bool(self._unknown)

    @property
    def open(self) -> list[Origin]:
        """The transfers that began in the batch and did not end in it."""
        return [origin for origin in self.begun if origin not in self._ended]

    def remembered(self, begun: dict[Origin, Transfer]) -> list[Origin]:
        """Match with transfers that began in earlier batches, and add to `begun` those that stay open.

        Returns the origins of transfers that began elsewhere, or so long ago that they are not in memory.
        """
        here, lacking = dict(self.begun), []
        for origin in self._ended:
            if here.pop(origin, None) is None:
                transfer = begun.pop(origin, None)
                if transfer is None:
                    lacking.append(origin)
                else:
                    self._began(transfer)
        begun |= here
        return lacking

    def found(self, lacking: Sequence[Origin], found: Mapping[Origin, Transfer], facts: Facts) -> None:
        """Match what was lacking with the transfers found in the tables."""
        for transfer in found.values():
            self._began(transfer)
        unknown = {origin for origin in lacking if origin not in found}
        if unknown:
            self._unknown = [
                (self._ended[p.origin], p.account)
                for p in facts.postings
                if p.origin in unknown and not p.type
            ]

    def _began(self, transfer: Transfer) -> None:
        self.begun[transfer.origin] = transfer
        self._later.append((transfer, self._ended[transfer.origin]))

    def of_posting(self, posting: Posting) -> tuple[Transfer | None, str, str]:
        """The transfer of a posting that lacks its data (else None), and the status and code known so far."""
        if not posting.type:
            return self.begun.get(posting.origin), posting.status, posting.code
        if posting.status == PENDING:
            end = self._ended.get(posting.origin)
            if end is not None:
                return None, end.status, end.code
        return None, posting.status, posting.code

    def of_transfer(self, transfer: Transfer) -> End | None:
        return self._ended.get(transfer.origin) if transfer.status == PENDING else None

    async def write(self, connection: Any) -> None:
        """Write the ends of transfers already in the tables, in the transaction of the batch.

        Raises `TakenOver` when some are there no more: they are made anew, and would never get their end.
        """
        if self._later:
            rows = [
                (*t.origin[:3], time_of(t.at_ms), e.status, e.code or None, time_of(e.at_ms), t.payer)
                for t, e in self._later
            ]
            columns = [list(column) for column in zip(*rows, strict=True)]
            if await connection.execute(_END_TRANSFERS, *columns) != f"UPDATE {len(rows)}":
                raise TakenOver("transfers that end here are made anew: positions are read again")
            await connection.execute(_END_POSTINGS, *columns)
        if self._unknown:
            await connection.executemany(
                _EARLY,
                [
                    (*end.origin[:3], end.partition, end.seq, end.idx, time_of(end.at_ms), account)
                    for end, account in self._unknown
                ],
            )
        await self.legs.write(connection)


class Ends:
    """Of one sink. `match` each batch, `look_up` what it lacks, ask it for its rows, and tell when it is `written`.

    What began in a batch is remembered as soon as that is matched: the next one is, before the first is written.
    """

    def __init__(self) -> None:
        #: Transfers that began and have not ended.
        self._begun: dict[Origin, Transfer] = {}
        #: Whether credits and legs may be waiting for what they are the end of.
        self._early_credits = True
        self._early_legs = True
        #: When all early credits may be looked at again, by `time.monotonic`.
        self._look_s = 0.0

    def __repr__(self) -> str:
        return f"<Ends pending={len(self._begun)}>"

    @property
    def early(self) -> bool:
        """Whether something may be waiting for what it is the end of."""
        return self._early_credits or self._early_legs

    def forget(self) -> None:
        self._begun.clear()
        self._early_credits = self._early_legs = True

    def match(self, facts: Facts) -> tuple[Matched, list[Origin]]:
        """A batch's matches, and the origins to look up in the tables once the previous batch is written."""
        matched = Matched(facts, MatchedLegs(facts))
        lacking = matched.remembered(self._begun)
        while len(self._begun) > PENDING_MAX:
            del self._begun[next(iter(self._begun))]
        return matched, lacking

    async def look_up(
        self, connection: Any, facts: Facts, matched: Matched, lacking: Sequence[Origin]
    ) -> None:
        """Look up in the tables what is lacking, and match it."""
        await matched.legs.look_up(connection, facts)
        if lacking:
            matched.found(lacking, await self._find(connection, lacking), facts)

    async def written(self, connection: Any, matched: Matched) -> None:
        """Note that the batch is committed, and settle what came early."""
        self._early_credits = self._early_credits or matched.unknown
        self._early_legs = self._early_legs or matched.legs.unknown
        begun = matched.open if self._early_credits else []
        if begun:
            async with connection.transaction():
                await connection.execute(WRITES)
                await connection.execute(_SETTLE_THESE, *([o[field] for o in begun] for field in range(3)))
        await self.settle_early(connection)

    async def settle_early(self, connection: Any) -> None:
        """Complete early credits and legs whose transfer has arrived, also by another process."""
        began_s = time.monotonic()
        if self._early_credits and began_s >= self._look_s:
            async with connection.transaction():
                await connection.execute(WRITES)
                await connection.execute(_SETTLE)
            self._early_credits = await connection.fetchval("SELECT EXISTS (SELECT FROM early_credits)")
            ended_s = time.monotonic()
            self._look_s = ended_s + (ended_s - began_s) / LOOK_SHARE_MAX
        if self._early_legs:
            self._early_legs = await settle_legs(connection)

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
