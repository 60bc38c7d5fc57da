"""Transactions whose client stands still, and that hold what others wait for.

The server itself ends one that stands still between two statements (`session.IDLE_S_MAX`). In the middle of a COPY it
waits for the client's data, and none of its timeouts ends that: a process that was stopped there, or whose machine has
lost its power, would keep all others waiting for hours.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

#: The names of sessions that write rows of several partitions, or deliveries.
HISTORY_WRITER: Final = "wallet-engine follow"
EVENTS_WRITER: Final = "wallet-engine follow webhooks"
DELIVERIES_WRITER: Final = "wallet-engine webhooks"
WRITERS: Final = (HISTORY_WRITER, EVENTS_WRITER, DELIVERIES_WRITER)

#: A client that is alive sends and reads within milliseconds; its transactions take some seconds at most.
_END_STALLED: Final = """
SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pg_has_role(usesysid, 'MEMBER') AND application_name = ANY($1)
  AND state = 'active' AND wait_event IN ('ClientRead', 'ClientWrite')
  AND xact_start < clock_timestamp() - make_interval(secs => $2) AND pid <> ALL($3)
"""
_HOLDERS: Final = """
SELECT pid, application_name, coalesce(host(client_addr), 'this machine') AS host,
    coalesce(extract(epoch FROM clock_timestamp() - xact_start)::integer, 0) AS age_s
FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids($1)) ORDER BY pid
"""
_USERS: Final = """
SELECT DISTINCT pid, application_name, coalesce(host(client_addr), 'this machine') AS host,
    coalesce(extract(epoch FROM clock_timestamp() - xact_start)::integer, 0) AS age_s
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE granted AND relation IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS name) AND pid <> pg_backend_pid()
ORDER BY age_s DESC, pid LIMIT 5
"""


class Holder(NamedTuple):
    """A session that another one waits for, and the age of its transaction."""

    pid: int
    name: str
    host: str
    age_s: int

    def __str__(self) -> str:
        return f"PostgreSQL's process {self.pid} ({self.name or 'without a name'}, from {self.host})"


async def end_stalled(
    connection: Any, over_s: float, spared: tuple[int, ...] = (), writers: tuple[str, ...] = WRITERS
) -> list[int]:
    """End the transactions of `writers` older than this whose clients stand still; processes `spared` go on.

    Only those of users of the database that this one may end. Returns the server's processes that it has ended. Their
    transactions have no effect, and a follower that goes on reads its positions again.
    """
    rows = await connection.fetch(_END_STALLED, writers, over_s, spared)
    return [row["pid"] for row in rows]


async def holders(connection: Any, pid: int) -> list[Holder]:
    """The sessions that the server's process `pid` waits for."""
    return [Holder(*row) for row in await connection.fetch(_HOLDERS, pid)]


async def users_of(connection: Any, tables: Sequence[str]) -> list[Holder]:
    """Other sessions in whose transactions these tables are locked, also by reading; the oldest five."""
    return [Holder(*row) for row in await connection.fetch(_USERS, tables)]
