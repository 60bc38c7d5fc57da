"""Detaches an old month from the history, and carries its balances into the next one.

The sink takes an account's balance from its last posting, and so do readers of the past. So the last posting of each
account in the month gets a copy at the beginning of the next month, of type `carried`, which changes no balance. This
copy goes with its month: when that is detached, it is carried on.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import asyncpg

from wallet_engine.domain.errors import ConfigError, Outage, WrongUsage
from wallet_engine.history.database import (
    DETACHES,
    MONTHLY,
    SCHEMA,
    WRITES,
    attached_months,
    check_version,
    make_months,
)
from wallet_engine.history.facts import CARRIED
from wallet_engine.history.rows import uuid_of
from wallet_engine.history.sink import SINK
from wallet_engine.history.stalled import users_of

#: How long all partitions must have been followed beyond the end of the month: clocks differ, and what has begun ends.
SETTLED: Final = timedelta(days=1)
#: How long others may wait behind an attempt to detach: longer than PostgreSQL's deadlock_timeout, when it cancels its
#: own vacuum. The pause between two attempts; and how long it is attempted: longer than a statement may be streamed.
LOCK_MS: Final = 2_000
PAUSE_S: Final = 2.0
ATTEMPTS_S_MAX: Final = 900.0
#: Characters of the packed id with which a part's name begins (`domain/memory.py`).
_ID_LENGTH: Final = 22

_CARRY: Final = """
INSERT INTO postings (at, seq, delta, amount, balance, held, pending, origin_seq, origin_partition, partition, idx, sub,
    origin_idx, leg, account, currency, type, status)
SELECT DISTINCT ON (account, currency, partition) $1::timestamptz, seq, 0, 0, balance, held, pending, seq, partition,
    partition, idx, sub, idx, 0, account, currency, $2::text, 'success'
FROM {} ORDER BY account, currency, partition, at DESC, seq DESC, idx DESC, sub DESC
ON CONFLICT DO NOTHING
"""
_UNENDED: Final = """
SELECT (SELECT count(*) FROM transfers WHERE status = 'pending' AND at >= $1 AND at < $2)
    + (SELECT count(*) FROM early_credits WHERE at >= $1 AND at < $2)
    + (SELECT count(*) FROM early_legs WHERE at >= $1 AND at < $2)
    + (SELECT count(DISTINCT transaction_id) FROM transfers
        WHERE transaction_id = ANY($3) AND type = 'group' AND status = 'success' AND at >= $1 AND at < $2)
"""


class Month(NamedTuple):
    """A month in UTC; its text is `2025-01`."""

    year: int
    month: int

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"

    @property
    def begin(self) -> datetime:
        return datetime(self.year, self.month, 1, tzinfo=UTC)

    @property
    def next(self) -> "Month":
        return Month(self.year + self.month // 12, self.month % 12 + 1)

    def of(self, table: str) -> str:
        """The name of the month's table."""
        return f"{table}_{self.year:04d}_{self.month:02d}"


@dataclass(frozen=True, slots=True)
class Detached:
    """The number of balances carried, the tables that were detached now, and all of the month that stand there so."""

    carried: int
    detached: tuple[str, ...]
    standing: tuple[str, ...]


def parse_month(text: str) -> Month:
    """`2025-01` -> that month. Raises `WrongUsage`."""
    try:
        time = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise WrongUsage(f"{text!r} is no month such as 2025-01") from None
    return Month(time.year, time.month)


async def detach(connection: Any, month: Month, partitions: int, tell: Callable[[str], None]) -> Detached:
    """Detach the month's tables, in one transaction with the copies of its last postings. May be repeated.

    Of a month that was detached without this, the balances are carried now. `partitions`: how many the cluster has.
    Raises `ConfigError` for a month that cannot be detached, and `Outage` when another transaction uses the tables
    for 15 minutes; then nothing was changed.
    """
    await check_version(connection)
    attached, standing = await _tables(connection, month)
    if not attached and not standing:
        raise ConfigError(f"the history has no tables of {month}")
    after = await _first_attached(connection, month)
    async with connection.transaction():
        if not await connection.fetchval(DETACHES):
            raise Outage("history_unavailable", "another history detach is running")
        await connection.execute(WRITES)  # nobody deletes rows meanwhile
        if attached:
            await _check_oldest(connection, month)
            await _check_followed(connection, month, partitions)
            await _check_ended(connection, month)
        carried = 0
        if month.of("postings") in (*attached, *standing):
            tell(f"the last balances of {month} are carried into {after}")
            said = await connection.execute(_CARRY.format(month.of("postings")), after.begin, CARRIED)
            carried = int(said.rpartition(" ")[2])
        if attached:
            await _detach_when_free(connection, month, tell)
    return Detached(carried, attached, tuple(sorted((*attached, *standing))))


async def _tables(connection: Any, month: Month) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The month's tables that are attached, and those that stand there detached."""
    rows = await connection.fetch(
        "SELECT relname, relispartition FROM pg_class "
        "WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND relname = ANY($2) ORDER BY relname",
        *(SCHEMA, [month.of(table) for table in MONTHLY]),
    )
    attached = tuple(row["relname"] for row in rows if row["relispartition"])
    return attached, tuple(row["relname"] for row in rows if not row["relispartition"])


async def _first_attached(connection: Any, month: Month) -> Month:
    """The first later month that is not detached. Its tables are made if it has none."""
    after = month.next
    while True:
        attached, standing = await _tables(connection, after)
        if after.of("postings") in attached:
            return after
        if after.of("postings") not in standing:
            await make_months(connection, {(after.year, after.month)})
            return after
        after = after.next


async def _check_oldest(connection: Any, month: Month) -> None:
    older = sorted({each for _, each in await attached_months(connection) if each < str(month)})
    if older:
        raise ConfigError(f"{older[0]} is older than {month}, and attached: detach it first")


async def _check_followed(connection: Any, month: Month, partitions: int) -> None:
    rows = await connection.fetch("SELECT partition, at FROM positions WHERE sink = $1", SINK)
    reached, needed = {row["partition"]: row["at"] for row in rows}, month.next.begin + SETTLED
    behind = [p for p in range(partitions) if p not in reached or reached[p] < needed]
    if behind:
        named = ", ".join(map(str, behind[:10])) + (", …" if len(behind) > 10 else "")
        raise ConfigError(
            f"{month} can be detached when the history has all until {needed:%Y-%m-%d %H:%M} UTC: "
            f"partitions {named} are not there yet (wallet-admin history status)"
        )


async def _check_ended(connection: Any, month: Month) -> None:
    """What ends a transfer or tells a leg of its group is written into the rows of both: they must be there."""
    parts = await connection.fetch("SELECT part FROM group_parts")
    groups = [uuid_of(row["part"][:_ID_LENGTH]) for row in parts]
    unended = await connection.fetchval(_UNENDED, month.begin, month.next.begin, groups)
    if unended:
        raise ConfigError(
            f"{unended} transfers of {month} have not ended in the history: see wallet-admin pending"
        )


async def _detach_when_free(connection: Any, month: Month, tell: Callable[[str], None]) -> None:
    """Detach all attached tables of the month. Who reads them is waited for, and keeps nobody else waiting for long."""
    deadline_s, told = time.monotonic() + ATTEMPTS_S_MAX, ""
    while True:
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_MS}ms'")
                for table in MONTHLY:
                    name = month.of(table)
                    if name in (await _tables(connection, month))[0]:
                        await connection.execute(f"ALTER TABLE {table} DETACH PARTITION {name}")
            return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            pass
        users = await users_of(connection, (*MONTHLY, *map(month.of, MONTHLY)))
        who = "; ".join(map(str, users))
        if who and who != told:
            tell(f"it waits for {who}")
            told = who
        if time.monotonic() > deadline_s:
            raise Outage(
                "history_unavailable",
                f"nothing was detached, because it waits for {told}: end that, and repeat",
            )
        await asyncio.sleep(PAUSE_S)
