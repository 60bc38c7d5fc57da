"""Deletes the history of partitions, so that the followers rebuild it."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Final

from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.errors import ConfigError, Outage
from wallet_engine.history import session
from wallet_engine.history.database import (
    NO_WRITES,
    HistoryUnavailable,
    as_outage,
    attached_months,
    connected,
)
from wallet_engine.history.sink import SINK
from wallet_engine.history.stalled import end_stalled, holders

#: After how long it looks who keeps it waiting, and the oldest transaction that it waits for.
LOOK_S: Final = 2.0
HELD_S_MAX: Final = 120

#: Credits in other partitions, of transfers that began in these: they wait until the transfers are rebuilt.
_SET_BACK: Final = """
WITH back AS (
    UPDATE postings SET type = '', transaction_id = NULL, counterparty = NULL, reference = NULL, metadata = NULL
    WHERE origin_partition = ANY($1) AND partition <> ALL($1)
    RETURNING origin_partition, origin_seq, origin_idx, partition, seq, idx, at, account
)
INSERT INTO early_credits SELECT * FROM back ON CONFLICT DO NOTHING
"""
_TABLES: Final = (
    "postings",
    "transfers",
    "groups",
    "holds",
    "accounts",
    "group_parts",
    "early_credits",
    "early_legs",
)


async def clear(connection: Any, partitions: Collection[int]) -> None:
    """Delete the rows of these partitions and set their positions to the beginning, in one transaction."""
    chosen = list(partitions)
    async with connection.transaction():
        # What followers are writing about these transfers is committed, and set back too. Later they find none.
        await connection.execute(NO_WRITES)
        await connection.execute(
            "UPDATE positions SET seq = 0, nonce = $3, at = 'epoch' WHERE sink = $1 AND partition = ANY($2)",
            *(SINK, chosen, ZERO_NONCE),
        )
        await connection.execute(_SET_BACK, chosen)
        for table in _TABLES:
            await connection.execute(f"DELETE FROM {table} WHERE partition = ANY($1)", chosen)


async def check_whole(connection: Any, partitions: Collection[int]) -> None:
    """Raises `ConfigError` when months are gone of which other partitions than these had rows.

    What the others received from these partitions then, and sent to them, would wait for its other side for ever.
    """
    others = "SELECT EXISTS (SELECT FROM positions WHERE sink = $1 AND seq > 0 AND partition <> ALL($2))"
    if not await connection.fetchval(others, SINK, list(partitions)):
        return
    opened_at = await connection.fetchval("SELECT min(opened_at) FROM accounts")
    oldest = min(
        (month for table, month in await attached_months(connection) if table == "postings"), default=""
    )
    if opened_at is not None and f"{opened_at:%Y-%m}" < oldest:
        raise ConfigError(
            f"months before {oldest} were detached, and some partitions alone cannot be joined with the others in "
            "them: attach these months, or rebuild all partitions"
        )


async def clear_telling(
    connection: Any, partitions: Collection[int], url: str, tell: Callable[[str], None]
) -> None:
    """`clear`, which tells whom it waits for, and ends followers that stand still in the middle of a write.

    Raises `HistoryUnavailable`, and `Outage` when it waits for another long transaction: then nothing was deleted.
    """
    clearing = asyncio.ensure_future(clear(connection, partitions))
    try:
        while not (await asyncio.wait((clearing,), timeout=LOOK_S))[0]:
            with suppress(HistoryUnavailable):  # then it is only not known who keeps it waiting
                async with connected(url, "wallet-admin history rebuild, looking") as looking:
                    await _look(looking, connection.get_server_pid(), tell)
        with as_outage():
            clearing.result()
    finally:
        if not clearing.done():
            connection.terminate()  # first: otherwise the cancelled query waits for the server
            clearing.cancel()
        await asyncio.gather(clearing, return_exceptions=True)


async def _look(looking: Any, pid: int, tell: Callable[[str], None]) -> None:
    ended = await end_stalled(looking, session.IDLE_S_MAX)
    if ended:
        named = ", ".join(map(str, ended))
        tell(
            f"followers that stood still in the middle of a write were ended: PostgreSQL's processes {named}"
        )
    found = await holders(looking, pid)
    who = "; ".join(map(str, found))
    if found:
        tell(f"it waits for {who}")
    if any(each.age_s > HELD_S_MAX for each in found):
        raise Outage(
            "history_unavailable", f"nothing was deleted, because it waits for {who}: end that, and repeat"
        )
