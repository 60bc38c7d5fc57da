"""Endpoints and deliveries in PostgreSQL, as callers of the API manage them. Times are Unix seconds.

Every change of an endpoint's deliveries locks the endpoint's row, so `delivery_id` grows in the order in
which others see them. `version` and `poked` tell the delivering process what it must read again.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from wallet_engine.webhooks.endpoint import DISABLED, ENABLED, WEBHOOKS_MAX, Endpoint
from wallet_engine.webhooks.log import first_since
from wallet_engine.webhooks.queue import PENDING, STATUSES
from wallet_engine.webhooks.signing import ROTATION_S

#: Subject of test deliveries, which are of no row of the log; no account has this name.
TEST: Final = "*"

_COLUMNS: Final = (
    "webhook_id, url, types, accounts, description, status, reason, secret, previous_secret, "
    "extract(epoch FROM previous_until)::float8 AS previous_until_s, "
    "extract(epoch FROM created_at)::float8 AS created_s, position, version, poked"
)


#: No delivery has a larger id.
MAX_ID: Final = 2**63 - 1
#: A page of each status, and of these the newest. The comparison of two columns leaves PostgreSQL only the index that
#: begins with endpoint and status: with others it would read the deliveries of all endpoints to find those of one.
_LISTED: Final = """
SELECT each.* FROM unnest($2::text[]) AS asked (status) CROSS JOIN LATERAL (
    SELECT delivery_id, event_id, type, subject, d.status, attempts, extract(epoch FROM next_at)::float8 AS next_s,
        extract(epoch FROM created_at)::float8 AS created_s, extract(epoch FROM tried_at)::float8 AS tried_s,
        answer, error
    FROM webhook_deliveries AS d
    WHERE webhook_id = $1 AND d.status >= asked.status AND (d.status, delivery_id) < (asked.status, $3::bigint)
    ORDER BY d.status DESC, delivery_id DESC LIMIT $4
) AS each ORDER BY delivery_id DESC LIMIT $4
"""


class DeliveryView(NamedTuple):
    """One listed delivery; `next_s` counts while it is pending, `tried_s` is set once it was tried."""

    delivery_id: int
    event_id: str
    type: str
    subject: str
    status: str
    attempts: int
    next_s: float
    created_s: float
    tried_s: float | None
    answer: int | None
    error: str


class TooMany(Exception):
    """The maximum number of endpoints exists already."""


class WebhookStore:
    """`pool` is a `Pool`, or one of asyncpg's. Raises what asyncpg raises."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def __repr__(self) -> str:
        return f"<WebhookStore {self._pool!r}>"

    async def create(self, endpoint: Endpoint) -> Endpoint:
        """Create the endpoint; it gets events committed from now on. Raises `TooMany`."""
        row = await self._pool.fetchrow(
            f"INSERT INTO webhooks (webhook_id, url, types, accounts, description, secret, position) "
            f"SELECT $1, $2, $3, $4, $5, $6, last FROM event_numbers "
            f"WHERE (SELECT count(*) FROM webhooks) < {WEBHOOKS_MAX} RETURNING {_COLUMNS}",
            *(endpoint.webhook_id, endpoint.url, endpoint.types, endpoint.accounts),
            *(endpoint.description, endpoint.secret),
        )
        if row is None:
            raise TooMany(f"there are {WEBHOOKS_MAX} endpoints, which is the most")
        return endpoint_of(row)

    async def all(self) -> list[Endpoint]:
        """All endpoints, the oldest first."""
        rows = await self._pool.fetch(f"SELECT {_COLUMNS} FROM webhooks ORDER BY created_at, webhook_id")
        return [endpoint_of(row) for row in rows]

    async def get(self, webhook_id: str) -> Endpoint | None:
        row = await self._pool.fetchrow(f"SELECT {_COLUMNS} FROM webhooks WHERE webhook_id = $1", webhook_id)
        return None if row is None else endpoint_of(row)

    async def change(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        types: Sequence[str] | None = None,
        accounts: Sequence[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> Endpoint | None:
        """Change the given fields. Queued deliveries stay queued, and go to the new URL."""
        status = None if enabled is None else ENABLED if enabled else DISABLED
        reason = None if enabled is None else "" if enabled else "disabled by an operator"
        row = await self._pool.fetchrow(
            f"UPDATE webhooks SET url = coalesce($2::text, url), types = coalesce($3::text[], types), "
            f"accounts = coalesce($4::text[], accounts), description = coalesce($5::text, description), "
            f"reason = CASE WHEN $6::text IS NULL OR $6 = status THEN reason ELSE $7::text END, "
            f"status = coalesce($6::text, status) WHERE webhook_id = $1 RETURNING {_COLUMNS}",
            *(webhook_id, url, types, accounts, description, status, reason),
        )
        return None if row is None else endpoint_of(row)

    async def delete(self, webhook_id: str) -> bool:
        """Delete the endpoint and its deliveries. Returns whether it existed."""
        gone = await self._pool.fetchval(
            "DELETE FROM webhooks WHERE webhook_id = $1 RETURNING true", webhook_id
        )
        return bool(gone)

    async def rotate(self, webhook_id: str, secret: str) -> Endpoint | None:
        """Sign with this secret from now on, and for one more day also with the previous one."""
        row = await self._pool.fetchrow(
            f"UPDATE webhooks SET previous_secret = secret, secret = $2, "
            f"previous_until = now() + make_interval(secs => {ROTATION_S}) "
            f"WHERE webhook_id = $1 RETURNING {_COLUMNS}",
            *(webhook_id, secret),
        )
        return None if row is None else endpoint_of(row)

    async def add_test(self, webhook_id: str, event_id: str, type_: str, body: bytes) -> bool:
        """Queue a test delivery, tried once. Returns whether the endpoint exists and is enabled."""
        async with self._connection() as connection, connection.transaction():
            found = await connection.fetchval(
                "UPDATE webhooks SET poked = poked + 1 WHERE webhook_id = $1 AND status = $2 RETURNING true",
                *(webhook_id, ENABLED),
            )
            if found:
                await connection.execute(
                    "INSERT INTO webhook_deliveries (webhook_id, event_id, type, subject, body) "
                    "VALUES ($1, $2, $3, $4, $5)",
                    *(webhook_id, event_id, type_, TEST, body),
                )
        return bool(found)

    async def replay(self, webhook_id: str, from_s: float) -> Endpoint | None:
        """Send all events of this time or later again.

        Pending deliveries among them are replaced, not doubled.
        """
        async with self._connection() as connection, connection.transaction():
            first = await first_since(connection, datetime.fromtimestamp(from_s, UTC))
            row = await connection.fetchrow(
                f"UPDATE webhooks SET version = version + 1, position = least(position, $2) "
                f"WHERE webhook_id = $1 RETURNING {_COLUMNS}",
                *(webhook_id, MAX_ID if first is None else first - 1),
            )
            if row is not None:
                await connection.execute(
                    "DELETE FROM webhook_deliveries WHERE webhook_id = $1 AND number > $2",
                    *(webhook_id, row["position"]),
                )
        return None if row is None else endpoint_of(row)

    async def deliveries(
        self, webhook_id: str, status: str | None, limit: int, before: int | None = None
    ) -> list[DeliveryView]:
        """The deliveries older than `before`, the newest first."""
        statuses = STATUSES if status is None else (status,)
        asked = (webhook_id, statuses, MAX_ID if before is None else before, limit)
        rows = await self._pool.fetch(_LISTED, *asked)
        return [DeliveryView(*row) for row in rows]

    async def pending(self, webhook_id: str) -> int:
        """The number of pending deliveries."""
        count = await self._pool.fetchval(
            "SELECT count(*) FROM webhook_deliveries WHERE webhook_id = $1 AND status = $2",
            *(webhook_id, PENDING),
        )
        return int(count)

    def _connection(self) -> Any:
        return self._pool.acquire()


def endpoint_of(row: Any) -> Endpoint:
    """The endpoint of a row of `_COLUMNS`."""
    values = dict(row)
    values["types"], values["accounts"] = tuple(values["types"]), tuple(values["accounts"])
    return Endpoint(**values)


ENDPOINT_COLUMNS: Final = _COLUMNS
