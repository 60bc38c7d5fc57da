"""The postings at the edges of a period, and the balance before it."""

from datetime import UTC, datetime
from typing import Any, Final

from wallet_engine.domain.ids import is_system
from wallet_engine.history.database import time_of
from wallet_engine.history.sink import SINK

#: The order of an account's postings; within a partition it is the order in which they happened.
ORDER: Final = ("at", "partition", "seq", "idx", "sub")
_BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)


async def opening_of(connection: Any, account: str, currency: str, from_ms: int | None) -> int:
    """The balance before a period.

    If months before it were detached, an ordinary account's first posting tells what was before that.
    """
    start = _BEGINNING if from_ms is None else time_of(from_ms)
    before = [] if from_ms is None else await edge_postings(connection, account, currency, start, "<")
    if before or is_system(account):
        return sum(row["balance"] for row in before)
    first = await edge_postings(connection, account, currency, start, ">=")
    return sum(row["balance"] - row["delta"] for row in first)


async def edge_postings(connection: Any, account: str, currency: str, at: datetime, sign: str) -> list[Any]:
    """The last posting before (or at) a time, or the first one from it on; one for each partition of the account."""
    order = " DESC" if sign[0] == "<" else ""
    last = (
        f"SELECT * FROM postings WHERE account = $1 AND currency = $2 AND at {sign} $3 {{}}"
        f"ORDER BY {', '.join(f'{name}{order}' for name in ORDER)} LIMIT 1"
    )
    if not is_system(account):
        return list(await connection.fetch(last.format(""), account, currency, at))
    return list(
        await connection.fetch(
            "SELECT p.* FROM positions AS each CROSS JOIN LATERAL ("
            + last.format("AND partition = each.partition ")
            + ") AS p WHERE each.sink = $4",
            *(account, currency, at, SINK),
        )
    )
