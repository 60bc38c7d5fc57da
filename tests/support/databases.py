"""Databases for tests, and queries on them."""

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable
from typing import Any

from wallet_engine.dev.postgresql import PostgresProcess
from wallet_engine.history.database import connect

_numbers = itertools.count(1)


def fresh_database(server: PostgresProcess) -> str:
    """URL, with its password, of a new database."""
    name = f"history_{os.getpid()}_{next(_numbers)}"
    asked(server.url_with_password, lambda connection: connection.execute(f"CREATE DATABASE {name}"))
    return f"{server.url_with_password.rpartition('/')[0]}/{name}"


def asked(url: str, ask: Callable[[Any], Awaitable[Any]]) -> Any:
    """What `ask` returns for a new connection."""

    async def main() -> Any:
        connection = await connect(url, "test")
        try:
            return await ask(connection)
        finally:
            await connection.close()

    return asyncio.run(main())


def rows_of(url: str, query: str, *arguments: Any) -> list[dict[str, Any]]:
    """The rows of a query."""
    return [dict(row) for row in asked(url, lambda connection: connection.fetch(query, *arguments))]
