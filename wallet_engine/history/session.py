"""Queries to PostgreSQL that always end: with an answer, soon after the connection is lost, or at a time
limit.

The driver alone can wait for ever in three places: in a COPY whose connection is lost while its socket is
full; in a query after one that was given up, until the server confirms the cancellation; and when such a
connection returns to a pool. So a connection that has not answered is terminated before anything waits for
it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self, TypeVar

import asyncpg

from wallet_engine.domain.errors import ConfigError, WalletError
from wallet_engine.history.database import (
    BY_KEY,
    IN_ORDER,
    HistoryUnavailable,
    as_outage,
    connect,
    connected,
    settings,
)
from wallet_engine.history.stalled import end_stalled
from wallet_engine.telemetry.logging import get_logger

T = TypeVar("T")

#: Checks the database; raises `ConfigError` if it is unsuitable.
Check = Callable[[Any], Awaitable[None]]

#: How long a query may take to end after its connection is lost or terminated.
LOST_S_MAX: Final = 1.0
#: Maximum time of a follower's write: during a rebuild it waits for locks.
WRITE_S_MAX: Final = 60.0
#: How long the transaction of a process may stand still, between two statements or in the middle of a COPY: others wait
#: for its locks.
IDLE_S_MAX: Final = 30.0
#: How long a pool waits for a connection, and for the answer to a trivial query.
ALIVE_S_MAX: Final = 2.0
#: A server that answered within this time counts as alive.
FRESH_S_MAX: Final = 0.25

#: After these exceptions a connection may still be busy with the query.
_UNENDED: Final = (
    *(OSError, TimeoutError, asyncio.CancelledError),
    *(asyncpg.InterfaceError, asyncpg.InternalClientError),
)


#: Our tables are not there, or not as we know them: perhaps they were restored from a backup of an older version.
_OTHER_TABLES: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidSchemaNameError,
)


log = get_logger(__name__)


class Session:
    """One connection, for one query after the other."""

    def __init__(self, connection: Any, url: str) -> None:
        self.connection = connection
        self._url = url
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connection.add_termination_listener(self._note_lost)

    @classmethod
    async def open(cls, url: str, name: str, *, by_key: bool = False) -> Self:
        """`by_key`: see `database.BY_KEY`. Raises `HistoryUnavailable`, and `ConfigError` for a server too old."""
        return cls(await connect(url, name, {**(BY_KEY if by_key else {}), **_no_idling()}), url)

    def __repr__(self) -> str:
        return f"<Session {'lost' if self._lost.done() else 'open'}>"

    def _note_lost(self, _connection: Any) -> None:
        if not self._lost.done():
            self._lost.set_result(None)

    async def ask(self, asking: Awaitable[T], limit_s: float = WRITE_S_MAX) -> T:
        """The query's result.

        Raises `HistoryUnavailable`; the session is then unusable.
        """
        task = asyncio.ensure_future(asking)
        try:
            waiting_s = min(limit_s, IDLE_S_MAX)
            await asyncio.wait((task, self._lost), timeout=waiting_s, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and not self._lost.done() and limit_s > waiting_s:
                await self._end_stalled()
                left_s = limit_s - waiting_s
                await asyncio.wait((task, self._lost), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if self._lost.done() and not task.done():
                await asyncio.wait((task,), timeout=LOST_S_MAX)
            if not task.done():
                lost = self._lost.done()
                raise HistoryUnavailable(
                    ConnectionError("the connection was lost")
                    if lost
                    else TimeoutError(f"no answer within {limit_s:.0f} s")
                )
            with as_outage():
                return task.result()
        finally:
            if not task.done():
                await self._give_up(task)

    async def _end_stalled(self) -> None:
        """End those that may keep this session waiting, and stand still themselves."""
        with suppress(WalletError):
            async with connected(self._url, "wallet-engine follow, for another") as other:
                ended = await end_stalled(other, IDLE_S_MAX, (self.connection.get_server_pid(),))
                if ended:
                    log.warning(
                        "writers that stood still in the middle of a write were ended", processes=ended
                    )

    async def _give_up(self, task: "asyncio.Future[Any]") -> None:
        self.connection.terminate()  # first: otherwise the cancelled query waits for the server
        task.cancel()
        task.add_done_callback(_heed)
        await asyncio.wait((task,), timeout=LOST_S_MAX)

    def close(self) -> None:
        """Close at once; a running query ends with it."""
        self.connection.terminate()


class Pool:
    """Connections that are opened when needed; queries and errors are those of asyncpg's pool."""

    def __init__(self, pool: Any, check: Check | None = None) -> None:
        self._pool = pool
        self._check = check
        self._is_checked = check is None
        self._answered_s = -FRESH_S_MAX

    @classmethod
    async def open(
        cls,
        url: str,
        name: str,
        *,
        size_max: int,
        answer_s_max: float,
        quick_commits: bool = False,
        in_order: bool = False,
        may_idle: bool = False,
        check: Check | None = None,
    ) -> Self:
        """Does not connect yet. With `quick_commits` a commit need not wait for the disk. `in_order`: see
        `database.IN_ORDER`. `may_idle`: a transaction may last as long as somebody reads. A database that does not pass
        `check` gets no query, and raises `HistoryUnavailable`.
        """
        quick = {"synchronous_commit": "off"} if quick_commits else {}
        return cls(
            await asyncpg.create_pool(
                url,
                min_size=0,
                max_size=size_max,
                timeout=ALIVE_S_MAX,
                command_timeout=answer_s_max,
                reset=_leave,
                server_settings={
                    **settings(name),
                    **quick,
                    **(IN_ORDER if in_order else {}),
                    **({} if may_idle else _no_idling()),
                },
            ),
            check,
        )

    def __repr__(self) -> str:
        return f"<Pool {self._pool.get_size()}>"

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        """A connection whose server is alive."""
        connection = await self._pool.acquire(timeout=ALIVE_S_MAX)
        try:
            if time.monotonic() >= self._answered_s + FRESH_S_MAX:
                await connection.fetchval("SELECT 1", timeout=ALIVE_S_MAX)
            if not self._is_checked:
                await self._check_once(connection)
            yield connection
            self._answered_s = time.monotonic()
        except _OTHER_TABLES:
            self._is_checked = self._check is None
            raise
        except _UNENDED:
            connection.terminate()
            raise
        finally:
            await self._pool.release(connection, timeout=ALIVE_S_MAX)

    async def _check_once(self, connection: Any) -> None:
        try:
            if self._check is not None:
                await self._check(connection)
        except ConfigError as error:
            raise HistoryUnavailable(error) from None
        self._is_checked = True

    async def fetch(self, query: str, *arguments: Any) -> Sequence[Any]:
        async with self.acquire() as connection:
            rows: Sequence[Any] = await connection.fetch(query, *arguments)
        return rows

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> str:
        async with self.acquire() as connection:
            done: str = await connection.execute(query, *arguments)
        return done

    def terminate(self) -> None:
        """Close all of them at once."""
        self._pool.terminate()


def _no_idling() -> dict[str, str]:
    return {"idle_in_transaction_session_timeout": f"{IDLE_S_MAX * 1000:.0f}ms"}


async def _leave(_connection: Any) -> None:
    """No reset query: nothing changes a session's settings, and the driver ends transactions."""


def _heed(task: "asyncio.Future[Any]") -> None:
    if not task.cancelled():
        task.exception()
