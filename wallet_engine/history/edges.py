"""The postings at the edges of a period, and the balance before it."""

from datetime import UTC, datetime
from typing import Any, Final

from wallet_engine.domain.ids import is_system
from wallet_engine.history.database import time_of
from wallet_engine.history.facts import CARRIED
from wallet_engine.history.sink import SINK

#: The order of an account's postings; within a partition it is the order in which they happened.
ORDER: Final = ("at", "partition", "seq", "idx", "sub")
#: The comparison of two columns leaves PostgreSQL only the index of system accounts (migration 9): with the other one
#: it would read all parts to find that one has no posting.
_EDGE_OF_PARTS: Final = """
SELECT p.* FROM positions AS each CROSS JOIN LATERAL (
    SELECT * FROM postings
    WHERE account = $1 AND left(account, 1) = '@' AND currency = $2 AND at {sign} $3
        AND partition {back} each.partition AND (partition, at) {sign} (each.partition, $3)
    ORDER BY partition{order}, at{order}, seq{order}, idx{order}, sub{order} LIMIT 1
) AS p WHERE each.sink = $4
"""
_BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)


class NotKept(Exception):
    """Rows of the time that is asked for are not there any more: months were detached."""


async def opening_of(connection: Any, account: str, currency: str, from_ms: int | None) -> int:
    """The balance before a period; without `from_ms`, before all rows that are there.

    If months before it were detached, its first posting tells what was before that. Raises `NotKept` if the period
    begins in them.
    """

    def tells(row: Any) -> bool:
        return from_ms is None or (row["type"] == CARRIED and row["at"] == start)

    start = _BEGINNING if from_ms is None else time_of(from_ms)
    before = [] if from_ms is None else await edge_postings(connection, account, currency, start, "<")
    if before and not is_system(account):
        return int(before[0]["balance"])
    known = {row["partition"] for row in before}
    later = await edge_postings(connection, account, currency, start, ">=")
    first = [row for row in later if row["partition"] not in known]
    if any(_had_past(row) and not tells(row) for row in first):
        raise NotKept
    if (
        not before
        and not any(map(tells, first))
        and await _was_open(connection, account, currency, start, "<")
    ):
        raise NotKept
    return int(sum(row["balance"] - row["delta"] for row in first) + sum(row["balance"] for row in before))


async def last_postings(connection: Any, account: str, currency: str, at: datetime) -> list[Any]:
    """The last posting at or before a time, one for each partition of the account. Raises `NotKept`."""
    rows = await edge_postings(connection, account, currency, at, "<=")
    if is_system(account):
        known = {row["partition"] for row in rows}
        later = await edge_postings(connection, account, currency, at, ">=")
        if any(_had_past(row) for row in later if row["partition"] not in known):
            raise NotKept
    elif not rows and await _was_open(connection, account, currency, at, "<="):
        raise NotKept
    return rows


def _had_past(first: Any) -> bool:
    """Whether there were rows before the first one that is there."""
    return bool(first["type"] == CARRIED or first["balance"] != first["delta"])


async def _was_open(connection: Any, account: str, currency: str, at: datetime, sign: str) -> bool:
    query = (
        f"SELECT EXISTS (SELECT FROM accounts WHERE account = $1 AND currency = $2 AND opened_at {sign} $3)"
    )
    return bool(await connection.fetchval(query, account, currency, at))


async def edge_postings(connection: Any, account: str, currency: str, at: datetime, sign: str) -> list[Any]:
    """The last posting before (or at) a time, or the first one from it on; one for each partition of the account."""
    order = " DESC" if sign[0] == "<" else ""
    if is_system(account):
        query = _EDGE_OF_PARTS.format(sign=sign, back=">=" if order else "<=", order=order)
        return list(await connection.fetch(query, account, currency, at, SINK))
    last = (
        f"SELECT * FROM postings WHERE account = $1 AND currency = $2 AND at {sign} $3 "
        f"ORDER BY {', '.join(f'{name}{order}' for name in ORDER)} LIMIT 1"
    )
    return list(await connection.fetch(last, account, currency, at))
