"""Legs of groups that are paid outside the home partition, which has their reference and metadata.

As in `ends`, the group's decision is in the batch or in the tables, or it comes later: then the leg waits in
`early_legs`. The process that writes the later of the two, decision or leg, joins them.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import json

from wallet_engine.domain.notes import note_of
from wallet_engine.history.database import time_of
from wallet_engine.history.facts import GROUP, SUCCESS, Facts, Posting
from wallet_engine.history.rows import uuid_of

#: If an id was reused after it was forgotten, the mark tells the groups apart. Rows of before have none.
_FIND: Final = """
SELECT t.transaction_id, u.payer, u.mark, t.leg, t.reference, t.metadata
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS u (transaction_id, payer, mark)
JOIN transfers AS t ON t.transaction_id = u.transaction_id AND t.type = 'group' AND t.status = 'success'
JOIN groups AS g
    ON g.partition = t.partition AND g.seq = t.seq AND g.idx = t.idx AND g.at = t.at AND g.payer = u.payer
    AND coalesce(g.mark, u.mark) = u.mark
ORDER BY g.mark NULLS FIRST, t.at
"""
_EARLY: Final = (
    "INSERT INTO early_legs VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING"
)
#: Early legs whose group has arrived. The rows are locked: another process may settle them too.
_SETTLE: Final = """
WITH found AS (
    SELECT e.*, t.reference, t.metadata
    FROM early_legs AS e
    JOIN transfers AS t
        ON t.transaction_id = e.transaction_id AND t.leg = e.leg AND t.type = 'group' AND t.status = 'success'
    JOIN groups AS g
        ON g.partition = t.partition AND g.seq = t.seq AND g.idx = t.idx AND g.at = t.at AND g.payer = e.payer
        AND coalesce(g.mark, e.mark, '') = coalesce(e.mark, g.mark, '')
    FOR UPDATE OF e SKIP LOCKED
), told AS (
    UPDATE postings AS p SET type = 'group', reference = f.reference, metadata = f.metadata FROM found AS f
    WHERE p.account = f.account AND p.at = f.at AND p.partition = f.partition AND p.seq = f.seq AND p.idx = f.idx
        AND p.sub = f.sub
)
DELETE FROM early_legs AS e USING found AS f
WHERE e.partition = f.partition AND e.seq = f.seq AND e.idx = f.idx AND e.sub = f.sub
"""

#: Packed id of the group, the payer of its first leg, and its mark.
_Name = tuple[str, str, str]


class MatchedLegs:
    """The legs of one batch, matched with their groups; used like `ends.Matched`."""

    def __init__(self, facts: Facts) -> None:
        self._unknown: list[tuple[Posting, _Name]] = []
        #: Number of the posting -> the group of its leg.
        self._legs: dict[int, _Name] = {}
        self._here: dict[_Name, str] = {}
        if facts.homes:
            for number, posting in enumerate(facts.postings):
                home = facts.homes.get(posting.origin._replace(leg=0)) if posting.type == GROUP else None
                if home is not None:
                    self._legs[number] = (posting.transaction, *home)
            self._here = {
                (g.transaction, g.payer, g.mark): g.note for g in facts.groups if g.status == SUCCESS
            }

    def __repr__(self) -> str:
        return f"<MatchedLegs {len(self._legs)}>"

    @property
    def unknown(self) -> bool:
        """Whether some legs wait in `early_legs`."""
        return bool(self._unknown)

    @property
    def lacking(self) -> bool:
        """Whether some groups must be looked up in the tables."""
        return any(name not in self._here for name in self._legs.values())

    async def look_up(self, connection: Any, facts: Facts) -> None:
        """Give the batch's legs the note of their group. Legs of a group still unknown get the type ''."""
        found = await self._find(connection, {name for name in self._legs.values() if name not in self._here})
        for number, name in self._legs.items():
            posting = facts.postings[number]
            note = self._here.get(name, found.get((*name, posting.origin.leg)))
            if note is None:
                self._unknown.append((posting, name))
                facts.postings[number] = posting._replace(type="")
            else:
                facts.postings[number] = posting._replace(note=note)

    async def _find(self, connection: Any, names: Iterable[_Name]) -> dict[tuple[str, str, str, int], str]:
        ids = {uuid_of(transaction): transaction for transaction, _, _ in names}
        if not ids:
            return {}
        transactions, payers, marks = map(list, zip(*names, strict=True))
        columns = [uuid_of(transaction) for transaction in transactions], payers, marks
        found = {}
        for id_, payer, mark, leg, reference, metadata in await connection.fetch(_FIND, *columns):
            said = None if metadata is None else json.decode(metadata)
            found[ids[id_], payer, mark, leg] = note_of(reference, said)
        return found

    async def write(self, connection: Any) -> None:
        """Write the legs of unknown groups to `early_legs`, in the transaction of the batch."""
        if self._unknown:
            await connection.executemany(
                _EARLY,
                [
                    (
                        *(uuid_of(p.transaction), name[1], p.origin.leg, p.account, time_of(p.at_ms)),
                        *(p.partition, p.seq, p.idx, p.sub, name[2]),
                    )
                    for p, name in self._unknown
                ],
            )


async def settle_legs(connection: Any) -> bool:
    """Complete early legs whose group has arrived. Returns whether some still wait."""
    await connection.execute(_SETTLE)
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM early_legs)"))
