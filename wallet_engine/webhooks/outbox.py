"""The database side of a delivering process: leases of endpoints, and their deliveries from the event log.

A lease gives an endpoint to one process for some seconds, by the database's clock. A process that has lost
the lease records no more deliveries: these writes require the lease, and the version of the endpoint that the
process read.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from wallet_engine.domain.errors import WalletError
from wallet_engine.history.session import IDLE_S_MAX
from wallet_engine.history.stalled import DELIVERIES_WRITER, end_stalled
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.webhooks.endpoint import DISABLED, ENABLED, Endpoint, Filter
from wallet_engine.webhooks.log import read_events
from wallet_engine.webhooks.queue import DELIVERED, LINE_MAX, PARKED, PENDING, WAITING_MAX, Delivery, Result
from wallet_engine.webhooks.store import ENDPOINT_COLUMNS, MAX_ID, endpoint_of

log = get_logger(__name__)

#: Length of a lease: how long the endpoints of a dead process wait for another one.
LEASE_S: Final = 8.0
#: Maximum rows of the log in one step; the step also ends after about this many deliveries.
STEP_ROWS: Final = 50
STEP_DELIVERIES: Final = 2_000
#: Deliveries of one endpoint in memory at which reading of the log stops.
QUEUED_MAX: Final = 5_000
#: How long after their creation ended deliveries are kept.
KEPT_S: Final = {DELIVERED: 7 * 86_400, PARKED: 30 * 86_400}
#: How long events are kept by default, and how many rows of the log are removed at a time.
EVENTS_KEPT_DAYS: Final = 90.0
REMOVED_ROWS: Final = 5_000

_LEASE: Final = f"""
WITH free AS (
    SELECT webhook_id FROM webhooks
    WHERE status = $2 AND worker <> $1 AND leased_until < clock_timestamp() FOR UPDATE SKIP LOCKED
)
UPDATE webhooks SET worker = $1, leased_until = clock_timestamp() + make_interval(secs => {LEASE_S})
WHERE status = $2 AND (worker = $1 OR webhook_id IN (SELECT webhook_id FROM free)) RETURNING {ENDPOINT_COLUMNS}
"""
_RECORD: Final = """
UPDATE webhook_deliveries AS d
SET status = u.status, attempts = u.attempts, next_at = u.next_at, tried_at = $4, answer = u.answer, error = u.error
FROM unnest($5::bigint[], $6::text[], $7::integer[], $8::timestamptz[], $9::integer[], $10::text[])
    AS u (delivery_id, status, attempts, next_at, answer, error)
WHERE d.delivery_id = u.delivery_id
  AND EXISTS (SELECT 1 FROM webhooks WHERE webhook_id = $1 AND worker = $2 AND version = $3)
"""
#: The number up to which rows can be removed now; null for none.
_REMOVABLE: Final = """
WITH oldest AS (
    SELECT number, at FROM event_log
    WHERE number <= coalesce((SELECT min(position) FROM webhooks WHERE status = $2), 9223372036854775807)
    ORDER BY number LIMIT $3
)
SELECT max(number) FROM oldest
WHERE number < coalesce((SELECT min(number) FROM oldest WHERE at >= $1), 9223372036854775807)
"""


#: Deletes what is to be forgotten of the next deliveries in the order of their ids, which is about that of their
#: creation. Returns the last one's id and time, null behind the last.
_FORGET: Final = """
WITH oldest AS (
    SELECT delivery_id, created_at FROM webhook_deliveries WHERE delivery_id > $1 ORDER BY delivery_id LIMIT $2
), gone AS (
    DELETE FROM webhook_deliveries AS d USING oldest AS o WHERE d.delivery_id = o.delivery_id
        AND (d.status = $3 AND d.created_at < $5 OR d.status = $4 AND d.created_at < $6)
)
SELECT max(delivery_id), max(created_at) FROM oldest
"""


_QUEUED: Final = """
WITH counted AS (
    SELECT delivery_id, row_number() OVER (PARTITION BY subject ORDER BY delivery_id) AS place,
        count(*) OVER (PARTITION BY subject) AS waiting, max(delivery_id) OVER () AS last
    FROM webhook_deliveries
    WHERE webhook_id = $1 AND status = $2 AND delivery_id > $3 AND delivery_id <= $5
        AND ($6::text IS NULL OR subject = $6)
)
SELECT delivery_id, event_id, subject, body, attempts, extract(epoch FROM next_at)::float8 AS next_s,
    number IS NULL AS once, waiting, last
FROM counted JOIN webhook_deliveries USING (delivery_id) WHERE place <= $4 ORDER BY delivery_id
"""


class LeaseLost(WalletError):
    """Another process has the endpoint now, or it was changed: read it again."""


class Outbox:
    """One process's side, named `worker`. Raises what asyncpg raises."""

    def __init__(self, pool: Any, worker: str) -> None:
        self._pool = pool
        self._worker = worker

    def __repr__(self) -> str:
        return f"<Outbox {self._worker}>"

    async def lease(self) -> list[Endpoint]:
        """Lease every enabled endpoint that no other process has. Returns the leased endpoints.

        One that another process is just changing waits for the next time, unless it is leased here. Ends processes
        that stand still in the middle of that.
        """
        async with self._pool.acquire() as connection:
            ended = await end_stalled(connection, IDLE_S_MAX, writers=(DELIVERIES_WRITER,))
            if ended:
                log.warning("writers that stood still in the middle of a write were ended", processes=ended)
            rows = await connection.fetch(_LEASE, self._worker, ENABLED)
        return [endpoint_of(row) for row in rows]

    async def release(self) -> None:
        """Give up all leases at once."""
        await self._pool.execute(
            "UPDATE webhooks SET worker = '', leased_until = 'epoch' WHERE worker = $1", self._worker
        )

    async def last_number(self) -> int:
        """Number of the newest row of the log."""
        number: int = await self._pool.fetchval("SELECT last FROM event_numbers")
        return number

    async def queue_more(
        self, endpoint: Endpoint, position: int, wanted: Filter, failing: Collection[str]
    ) -> int:
        """Make deliveries from the log's rows behind `position`. Those of `failing` subjects are parked at once.

        Returns the new position. Raises `LeaseLost`.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                "SELECT number, events FROM event_log WHERE number > $1 ORDER BY number LIMIT $2",
                *(position, STEP_ROWS),
            )
            if not rows:
                return position
            made: list[tuple[str, int, str, str, str, bytes, str, str]] = []
            pending, parked = (PENDING, ""), (PARKED, f"{WAITING_MAX} earlier events of this account wait")
            reached = position
            for row in rows:
                reached = row["number"]
                made += [
                    (
                        *(endpoint.webhook_id, reached, event.id, event.type, event.subject),
                        *(bytes(event.document), *(parked if event.subject in failing else pending)),
                    )
                    for event in read_events(reached, row["events"])
                    if wanted.passes(event.type, event.accounts)
                ]
                if len(made) >= STEP_DELIVERIES:
                    break
            done = await connection.fetchval(
                "UPDATE webhooks SET position = $4 WHERE webhook_id = $1 AND worker = $2 AND version = $3 "
                "AND position = $5 RETURNING true",
                *(endpoint.webhook_id, self._worker, endpoint.version, reached, position),
            )
            if not done:
                raise LeaseLost(f"{endpoint.webhook_id} has changed, or is another process's")
            await connection.copy_records_to_table(
                "webhook_deliveries",
                records=made,
                columns=("webhook_id", "number", "event_id", "type", "subject", "body", "status", "error"),
            )
        return reached

    async def queued(self, endpoint: Endpoint, behind: int) -> tuple[list[Delivery], Mapping[str, int], int]:
        """The pending deliveries made after delivery `behind`, in order, and the id of the last one.

        Of an account, as many as its line needs to know whether they are all; and by account how many there are.
        """
        rows = await self._pool.fetch(
            _QUEUED, endpoint.webhook_id, PENDING, behind, LINE_MAX + 1, MAX_ID, None
        )
        waiting = {row["subject"]: row["waiting"] for row in rows}
        return [_delivery(row) for row in rows], waiting, rows[0]["last"] if rows else behind

    async def line(self, endpoint: Endpoint, subject: str, until: int) -> list[Delivery]:
        """The oldest pending deliveries of an account, up to delivery `until`: one more than its line takes."""
        asked = (endpoint.webhook_id, PENDING, 0, LINE_MAX + 1, until, subject)
        return [_delivery(row) for row in await self._pool.fetch(_QUEUED, *asked)]

    async def record(self, endpoint: Endpoint, results: Sequence[Result], now_s: float) -> None:
        """Record the results of attempts. Raises `LeaseLost` unless all were recorded."""
        rows = [
            (
                *(each.delivery.delivery_id, each.status, each.delivery.attempts + 1, _time(each.next_s)),
                *(each.reply.status, each.reply.error),
            )
            for each in results
        ]
        done = await self._pool.execute(
            _RECORD,
            endpoint.webhook_id,
            self._worker,
            endpoint.version,
            _time(now_s),
            *map(list, zip(*rows, strict=True)),
        )
        gone = [each.gone for each in results if each.gone]
        if gone:  # unless it has another URL by now
            await self._pool.execute(
                "UPDATE webhooks SET status = $3, reason = $4 "
                "WHERE webhook_id = $1 AND worker = $2 AND url = ANY($5)",
                *(endpoint.webhook_id, self._worker, DISABLED, "it answered 410 Gone", gone),
            )
        if done != f"UPDATE {len(results)}":
            raise LeaseLost(f"{endpoint.webhook_id} has changed, or is another process's")

    async def forget(self, now_s: float) -> None:
        """Delete deliveries that are older than `KEPT_S` and ended, some thousand at a time."""
        before = [_time(now_s - KEPT_S[status]) for status in (DELIVERED, PARKED)]
        seen, at = 0, datetime.min.replace(tzinfo=UTC)
        while seen is not None and at < max(before):
            seen, at = await self._pool.fetchrow(_FORGET, seen, REMOVED_ROWS, DELIVERED, PARKED, *before)

    async def remove_events(self, before_s: float) -> int:
        """Remove old events that every enabled endpoint has queued. Returns the number of removed rows."""
        count = 0
        while True:
            async with self._pool.acquire() as connection, connection.transaction():
                end = await connection.fetchval(_REMOVABLE, _time(before_s), ENABLED, REMOVED_ROWS)
                if end is None:
                    return count
                gone = await connection.execute("DELETE FROM event_log WHERE number <= $1", end)
                await connection.execute("UPDATE event_numbers SET removed = greatest(removed, $1)", end)
            count += int(gone.removeprefix("DELETE "))


def _delivery(row: Any) -> Delivery:
    return Delivery(**{name: value for name, value in row.items() if name not in ("waiting", "last")})


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
