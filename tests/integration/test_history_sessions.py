"""The PostgreSQL of the wheel; calls end when the server stops or dies in the middle of them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest
from support.databases import asked, fresh_database

from wallet_engine.dev.postgresql import PostgresProcess, find_postgresql
from wallet_engine.history.database import (
    FAILURES,
    SCHEMA,
    HistoryUnavailable,
    check_version,
    migrate,
    migrations,
)
from wallet_engine.history.session import Pool, Session

#: A call that does not end within this time fails; others need a part of it.
ENDS_S_MAX = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresProcess]:
    """The server of the Python package, whatever the system has."""
    made = PostgresProcess(find_postgresql(bundled=True), tmp_path_factory.mktemp("bundled"))
    assert made.install.source == "bundled"
    made.start_and_wait()
    try:
        yield made
    finally:
        made.stop()


@asynccontextmanager
async def session_on(server: PostgresProcess) -> AsyncIterator[tuple[Session, int]]:
    """A session, and the pid of the server process that serves it."""
    session = await Session.open(server.url_with_password, "test")
    try:
        yield session, await session.ask(session.connection.fetchval("SELECT pg_backend_pid()"))
    finally:
        session.close()


async def rows_until_stopped(pid: int) -> AsyncIterator[tuple[str]]:
    """More rows than socket buffers hold; the process is stopped at the fourth row and reads no more."""
    for number in range(300):
        if number == 3:
            os.kill(pid, signal.SIGSTOP)
        yield ("x" * 100_000,)


def test_the_wheels_own_server_takes_our_tables(server: PostgresProcess) -> None:
    async def main() -> None:
        async with session_on(server) as (session, _):
            before, now = await session.ask(migrate(session.connection))
            assert before == 0 < now
            await session.ask(check_version(session.connection))
            assert session.connection.get_server_version().major >= 13

    asyncio.run(main())


def test_tables_of_an_older_version_that_were_restored_are_named_until_they_are_migrated(
    postgresql: PostgresProcess,
) -> None:
    """Readers said for ever which table or column there is not."""
    url = fresh_database(postgresql)
    asked(url, migrate)
    query = "SELECT number FROM event_log"

    async def restore_first_version(connection: Any) -> None:
        await connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA}")
        await connection.execute(migrations()[1])
        await connection.execute("CREATE TABLE versions (version integer, migrated_at timestamptz)")
        await connection.execute("INSERT INTO versions VALUES (1)")

    async def main() -> None:
        pool = await Pool.open(url, "test", size_max=2, answer_s_max=5.0, check=check_version)
        try:
            assert await pool.fetch(query) == []
            await asyncio.to_thread(asked, url, restore_first_version)
            with pytest.raises(asyncpg.UndefinedTableError):
                await pool.fetch(query)
            for _ in range(2):
                with pytest.raises(HistoryUnavailable, match=r"version 1, .*: wallet-admin history migrate"):
                    await pool.fetch(query)
            await asyncio.to_thread(asked, url, migrate)
            assert await pool.fetch(query) == []
        finally:
            pool.terminate()

    asyncio.run(main())


@pytest.mark.parametrize("then", ["is killed", "stands still"])
def test_a_copy_in_whose_middle_the_server_goes_has_an_end(server: PostgresProcess, then: str) -> None:
    async def main() -> None:
        async with session_on(server) as (session, pid):
            await session.ask(session.connection.execute("CREATE TEMPORARY TABLE much (word text)"))
            limit_s = 60.0 if then == "is killed" else 0.5
            copying = session.connection.copy_records_to_table("much", records=rows_until_stopped(pid))
            try:
                asking = asyncio.create_task(session.ask(copying, limit_s))
                async with asyncio.timeout(ENDS_S_MAX):
                    while not asking.done() and session.connection._protocol.writing_allowed.is_set():
                        await asyncio.sleep(0.01)
                    if then == "is killed":
                        os.kill(pid, signal.SIGKILL)
                    with pytest.raises(HistoryUnavailable):
                        await asking
            finally:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(ENDS_S_MAX):
            while True:  # after a kill the server first ends all its other processes
                try:
                    async with session_on(server) as (session, _):
                        assert await session.ask(session.connection.fetchval("SELECT 1")) == 1
                        return
                except HistoryUnavailable:
                    await asyncio.sleep(0.1)

    asyncio.run(main())


def test_a_pool_gives_up_a_connection_that_stands_still(server: PostgresProcess) -> None:
    async def main() -> None:
        pool = await Pool.open(server.url_with_password, "test", size_max=1, answer_s_max=2.0)
        pid = await pool.fetchval("SELECT pg_backend_pid()")
        os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(ENDS_S_MAX):
                with pytest.raises(FAILURES):
                    await pool.fetch("SELECT 1")
                assert await pool.fetchval("SELECT pg_backend_pid()") != pid
        finally:
            os.kill(pid, signal.SIGCONT)
            pool.terminate()

    asyncio.run(main())
