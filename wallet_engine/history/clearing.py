"""Deletes the history of partitions, so that the followers rebuild it."""

from collections.abc import Collection
from typing import Any, Final

from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.history.database import NO_WRITES
from wallet_engine.history.sink import SINK

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
