"""The connection to PostgreSQL, the version of its tables, and their migration to ours."""

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

import asyncpg

from wallet_engine.domain.errors import ConfigError, Outage

#: The schema of all tables.
SCHEMA: Final = "wallet_history"
VERSION_MIN: Final = 13
CONNECT_S_MAX: Final = 10.0
#: Tables that are partitioned by month, by the time of their rows.
MONTHLY: Final = ("postings", "transfers", "groups")
#: Months whose tables are made in advance.
MONTHS_AHEAD: Final = 2
#: Key of the advisory lock under which tables are made: "wallet" in ASCII.
_LOCK: Final = 0x77616C6C6574
#: For transactions that write rows of several partitions, and those that delete the rows of some: they exclude each
#: other.
WRITES: Final = f"SELECT pg_advisory_xact_lock_shared({_LOCK + 1})"
NO_WRITES: Final = f"SELECT pg_advisory_xact_lock({_LOCK + 1})"
#: For the one transaction that detaches a month; false in a second one.
DETACHES: Final = f"SELECT pg_try_advisory_xact_lock({_LOCK + 2})"
#: First in a transaction that reads one snapshot of months: none is detached after it, whose carried balances it lacks.
ATTACHED_AS_SEEN: Final = "LOCK TABLE ONLY postings, ONLY transfers IN ACCESS SHARE MODE"
#: Each table of a month that is attached, and where the month begins.
_ATTACHED: Final = """
SELECT parent.relname, substring(pg_get_expr(month.relpartbound, month.oid) FROM '[0-9]{4}-[0-9]{2}')
FROM pg_inherits AS i
JOIN pg_class AS parent ON parent.oid = i.inhparent
JOIN pg_class AS month ON month.oid = i.inhrelid
WHERE parent.relnamespace = to_regnamespace($1) AND parent.relname = ANY($2)
"""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_migration_match = re.compile(r"([0-9]{4})\.sql\Z").match

#: Settings of a session that reads a few rows of large tables by key: they force the use of the index.
#: Otherwise the planner, which plans once, perhaps while the tables are empty, would read a whole month for
#: each batch.
BY_KEY: Final = MappingProxyType(
    {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "enable_sort": "off"}
)

#: Settings of a session that reads pages of long listings: they force a walk along an index in its order. Otherwise the
#: planner takes every account for one with few rows, once it has a plan for all, and sorts a million to show fifty.
IN_ORDER: Final = MappingProxyType({"enable_bitmapscan": "off", "enable_sort": "off"})

#: The exceptions that mean that PostgreSQL does not answer.
#: The driver raises the last one when a connection is lost between two steps of one call.
FAILURES: Final = (
    *(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError),
    asyncpg.InternalClientError,
)


class HistoryUnavailable(Outage):
    """The database does not answer, or not correctly."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("history_unavailable", "the history store does not answer", why=text_of(error))


def text_of(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def as_outage() -> Iterator[None]:
    """Turn errors of PostgreSQL, or of the connection to it, into `HistoryUnavailable`."""
    try:
        yield
    except FAILURES as error:
        raise HistoryUnavailable(error) from None


def time_of(ms: int) -> datetime:
    """Unix milliseconds -> the driver's time."""
    return _EPOCH + timedelta(milliseconds=ms)


def ms_of(time: datetime) -> int:
    since = time - _EPOCH
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def settings(name: str) -> dict[str, str]:
    """The server settings of every session."""
    return {"search_path": SCHEMA, "application_name": name, "timezone": "UTC", "jit": "off"}


async def connect(url: str, name: str, more: Mapping[str, str] = MappingProxyType({})) -> Any:
    """A connection with `more` settings.

    Raises `HistoryUnavailable`; `ConfigError` if PostgreSQL is too old.
    """
    with as_outage():
        try:
            connection = await asyncpg.connect(
                url,
                timeout=CONNECT_S_MAX,
                server_settings={**settings(name), **more},
                statement_cache_size=200,
            )
        except ValueError as error:
            raise ConfigError(
                "--database, with PGSSLMODE and the like in the environment, is not what PostgreSQL's clients "
                f"know, such as postgresql://user@host/database: {error}"
            ) from None
        version = connection.get_server_version()
        if version.major < VERSION_MIN:
            await connection.close()
            raise ConfigError(f"PostgreSQL {version.major} is too old: history needs {VERSION_MIN} or newer")
    return connection


@asynccontextmanager
async def connected(url: str, name: str) -> AsyncIterator[Any]:
    """A connection for the block. Raises as `connect` and `as_outage` do."""
    connection = await connect(url, name)
    try:
        with as_outage():
            yield connection
    finally:
        await connection.close()


def migrations() -> dict[int, str]:
    """Version -> the SQL that makes it from the previous one."""
    folder = resources.files("wallet_engine.history") / "migrations"
    found = {}
    for file in folder.iterdir():
        match = _migration_match(file.name)
        if match:
            found[int(match[1])] = file.read_text("utf-8")
    return dict(sorted(found.items()))


async def version_of(connection: Any) -> int:
    """The version of the tables; 0 without tables."""
    if await connection.fetchval("SELECT to_regclass($1)", f"{SCHEMA}.versions") is None:
        return 0
    return int(await connection.fetchval(f"SELECT coalesce(max(version), 0) FROM {SCHEMA}.versions"))


async def check_version(connection: Any) -> None:
    """Raises `ConfigError` unless the tables have our version."""
    found, ours = await version_of(connection), max(migrations())
    if found < ours:
        raise ConfigError(
            f"the history database has version {found}, this program needs {ours}: wallet-admin history migrate"
        )
    check_not_newer(found)


def check_not_newer(found: int) -> None:
    """Raises `ConfigError` for tables that a newer program has made."""
    ours = max(migrations())
    if found > ours:
        raise ConfigError(
            f"the history database has version {found}, this program knows {ours}: use the newer program"
        )


async def migrate(connection: Any) -> tuple[int, int]:
    """Bring the tables to our version, in one transaction: (version before, now). Raises `ConfigError`."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        before = await version_of(connection)
        check_not_newer(before)
        if before == 0:
            encoding = await connection.fetchval("SHOW server_encoding")
            if encoding != "UTF8":
                said = (
                    f"the database has encoding {encoding}, and references may have any letter: make it UTF8"
                )
                raise ConfigError(said)
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS {SCHEMA}.versions (version integer PRIMARY KEY, "
                f"migrated_at timestamptz NOT NULL DEFAULT now())"
            )
        now = before
        for version, text in migrations().items():
            if version > before:
                await connection.execute(text)
                await connection.execute("INSERT INTO versions (version) VALUES ($1)", version)
                now = version
        today = datetime.now(UTC)
        for month in range(MONTHS_AHEAD + 1):
            await _make_month(connection, *_months_after(today.year, today.month, month))
    return before, now


async def attached_months(connection: Any) -> set[tuple[str, str]]:
    """(table, month such as 2026-11) of all months that are attached."""
    return {(row[0], row[1]) for row in await connection.fetch(_ATTACHED, SCHEMA, list(MONTHLY))}


async def check_none_detached(connection: Any) -> None:
    """Raises `ConfigError` when tables of months stand there detached: a rebuild could not write these months."""
    found = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' "
        "AND NOT relispartition AND relname ~ $2 ORDER BY relname",
        *(SCHEMA, f"^({'|'.join(MONTHLY)})_[0-9]{{4}}_[0-9]{{2}}$"),
    )
    if found:
        raise _detached(", ".join(row["relname"] for row in found))


def _detached(names: str) -> ConfigError:
    return ConfigError(
        f"rows are to be written of months that are detached in schema {SCHEMA}: attach, rename or drop {names}"
    )


async def make_months(connection: Any, months: set[tuple[int, int]]) -> None:
    """Make the tables of these (year, month) where they are missing. Raises `ConfigError` for a detached one."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        for year, month in sorted(months):
            await _make_month(connection, year, month)


async def _make_month(connection: Any, year: int, month: int) -> None:
    next_year, next_month = _months_after(year, month, 1)
    for table in MONTHLY:
        name = f"{table}_{year:04d}_{month:02d}"
        if await connection.fetchval("SELECT to_regclass($1)", f"{SCHEMA}.{name}") is None:
            # To attach a table takes a lock beside which others read and write; to create it as a part does not.
            await connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
            await connection.execute(
                f"ALTER TABLE {table} ATTACH PARTITION {name} "
                f"FOR VALUES FROM ('{year:04d}-{month:02d}-01 00:00:00+00') "
                f"TO ('{next_year:04d}-{next_month:02d}-01 00:00:00+00')"
            )
        if not await connection.fetchval(
            "SELECT relispartition FROM pg_class WHERE oid = to_regclass($1)", f"{SCHEMA}.{name}"
        ):
            raise _detached(name)


def _months_after(year: int, month: int, count: int) -> tuple[int, int]:
    years, months = divmod(month - 1 + count, 12)
    return year + years, months + 1
