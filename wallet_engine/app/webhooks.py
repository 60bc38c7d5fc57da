"""The common part of processes that deal with webhooks: a flag, and the guarded events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import click

from wallet_engine.history.database import check_version
from wallet_engine.history.session import Pool
from wallet_engine.service.events import GuardedEvents
from wallet_engine.webhooks.log import EventLog
from wallet_engine.webhooks.store import WebhookStore

_CONNECTIONS_MAX: Final = 8
#: How long one question to the database may take.
_ANSWER_S_MAX: Final = 10.0


def webhooks_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--webhooks-allow-private`."""
    return click.option(
        "--webhooks-allow-private",
        is_flag=True,
        help="Let webhooks go to private and loopback addresses, and over plain http.",
    )(command)


@asynccontextmanager
async def guarded_events(
    database: str | None, stop: asyncio.Event, *, allow_private: bool
) -> AsyncIterator[GuardedEvents | None]:
    """Events in this database, None without one; connects at the first call. `stop` ends calls that wait."""
    if database is None:
        yield None
        return
    pool = await Pool.open(
        database,
        "wallet-engine serve",
        size_max=_CONNECTIONS_MAX,
        answer_s_max=_ANSWER_S_MAX,
        in_order=True,
        check=check_version,
    )
    log = EventLog(pool)
    events = GuardedEvents(log, WebhookStore(pool), allow_private=allow_private)

    async def stop_waiting() -> None:
        await stop.wait()
        events.stop_waiting()

    stopping = asyncio.create_task(stop_waiting())
    try:
        yield events
    finally:
        stopping.cancel()
        await log.close()
        pool.terminate()
